"""What safetensors weights are: an adapter, an image LoRA, a part of a diffusion pipeline, or a model."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from nomoat.share.checks.safetensors import SafeTensors

__all__ = ["safetensors_facts"]

_IMAGE_NAMES = re.compile(
    r"(lora_unet_|lora_te\d?_|unet\.|text_encoder(_2)?\.|transformer\.|diffusion_model\.)"
)
_LORA_NAMES = re.compile(r"\.lora_(A|B|down|up)\b|\.(alpha|hada_w1_a|lokr_w1)$|\.lora\.(down|up)\.")
_PIPELINE_FOLDERS = {
    "unet",
    "vae",
    "transformer",
    "text_encoder",
    "text_encoder_2",
    "image_encoder",
    "safety_checker",
}
# What trainers call the base -> the name under which people look for it.
_BASES = (("sdxl", "sdxl"), ("sd_xl", "sdxl"), ("flux", "flux1"), ("sd3", "sd3"), ("sd_v2", "sd2"), ("sd_v1", "sd1"),
          ("sd-v1", "sd1"), ("pony", "pony"), ("wan", "wan"), ("qwen", "qwen-image"))  # fmt: skip
_MOST_WORDS, _LONGEST = 20, 300


def safetensors_facts(path: str, header: SafeTensors) -> dict[str, Any]:
    """What the gallery shows of it."""
    names = [tensor.name for tensor in header.tensors]
    is_lora = any(_LORA_NAMES.search(name) for name in names)
    is_image = any(_IMAGE_NAMES.match(name) for name in names) or any(
        key.startswith("ss_") for key in header.metadata
    )
    facts: dict[str, Any] = {
        "format": "safetensors", "artefact": _artefact(path, is_lora, is_image), "quantisation": _dtype(header),
        "architecture": _image_base(names, header.metadata) if is_lora and is_image else "",
        "parameters": sum(tensor.n_elements for tensor in header.tensors), "tensors": len(header.tensors),
        "metadata": {key[:100]: value for key, value in list(header.metadata.items())[:100] if len(value) <= _LONGEST},
    }  # fmt: skip
    return facts | (_lora_facts(header) if is_lora else {})


def _artefact(path: str, is_lora: bool, is_image: bool) -> str:
    if is_lora:
        return "image-lora" if is_image else "adapter"
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return "pipeline" if folder in _PIPELINE_FOLDERS else "safetensors"


def _dtype(header: SafeTensors) -> str:
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[tensor.dtype] += tensor.end - tensor.start
    return sizes.most_common(1)[0][0] if sizes else ""


def _image_base(names: list[str], metadata: dict[str, str]) -> str:
    claimed = " ".join(
        metadata.get(key, "") for key in ("ss_base_model_version", "modelspec.architecture")
    ).lower()
    for word, base in _BASES:
        if word in claimed:
            return base
    if any("double_blocks" in name or "single_transformer_blocks" in name for name in names):
        return "flux1"
    return "sdxl" if any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in names) else "sd1"


def _lora_facts(header: SafeTensors) -> dict[str, Any]:
    ranks = Counter(
        min(tensor.shape[:2]) for tensor in header.tensors
        if len(tensor.shape) >= 2 and re.search(r"\.lora(_A|_down|\.down)\b", tensor.name)
    )  # fmt: skip
    facts: dict[str, Any] = {"rank": ranks.most_common(1)[0][0]} if ranks else {}
    alpha = header.metadata.get("ss_network_alpha", "")
    if re.fullmatch(r"\d+(\.\d+)?", alpha):
        facts["alpha"] = float(alpha)
    words = _trigger_words(header.metadata.get("ss_tag_frequency", ""))
    return facts | ({"trigger_words": words} if words else {})


def _trigger_words(text: str) -> list[str]:
    """The tags that its training pictures had most often."""
    try:
        folders = json.loads(text) if len(text) < 1 << 20 else {}
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int):
                counts[tag.strip()[:100]] += count
    return [tag for tag, _ in counts.most_common(_MOST_WORDS) if tag]
