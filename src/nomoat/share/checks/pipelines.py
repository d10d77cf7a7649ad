"""What `model_index.json` says of a diffusion pipeline: its class, and its components each with library and class.

Format: a JSON object that diffusers writes; `_class_name` names the pipeline, `"unet": ["diffusers", "Class"]` a
component in the folder of that name, `[null, null]` one that was left out. All other values are settings.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["INDEX_NAME", "pipeline_facts"]

INDEX_NAME = "model_index.json"
_MOST_COMPONENTS, _LONGEST = 40, 100
# Those for which diffusers' AutoPipelineForText2Image stands: words alone are what they start from.
_TEXT_TO_IMAGE = re.compile(
    r"(StableDiffusion(XL|3)?|StableCascadeCombined|WuerstchenCombined|LatentConsistencyModel|Flux2?(Klein)?|Chroma|IF|"
    r"PixArt(Alpha|Sigma)|Kandinsky(V22)?(Combined)?|Kandinsky3|HunyuanDiT|Lumina2?|AuraFlow|Sana|CogView(3Plus|4)|"
    r"QwenImage(21)?|ZImage|GlmImage|OvisImage|PRX)(PAG)?Pipeline"
)


def pipeline_facts(index: Any) -> dict[str, Any]:
    """Facts of the file's content; empty where it describes no pipeline."""
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str) or not name:
        return {}
    components = {
        str(part)[:_LONGEST]: [text[:_LONGEST] for text in value]
        for part, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)
    }
    facts: dict[str, Any] = {
        "artefact": "pipeline",
        "architecture": name[:_LONGEST],
        "components": dict(list(components.items())[:_MOST_COMPONENTS]),
    }
    return facts | ({"pipeline_tag": "text-to-image"} if _TEXT_TO_IMAGE.fullmatch(name) else {})
