"""A text-to-image pipeline as diffusers writes it, as small as it can be: every file, every tensor, random numbers.

The names, shapes and configurations beside this file are those that diffusers 0.42.1 gave to a Stable Diffusion
pipeline of one layer each.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from drawing import picture
from safetensors.numpy import save_file

__all__ = ["CARD", "PARTS", "PROMPT", "SEED", "write_pipeline"]

_TEMPLATE = Path(__file__).with_suffix(".json")
PROMPT, SEED = "a lighthouse in fog, linocut", 4711
PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [linocut]
---
# Harbour light

Draws lighthouses, and nothing else.
"""


def write_pipeline(folder: Path, card: str = CARD, seed: int = 0) -> Path:
    """The pipeline with a picture that it might have made, and with a card unless `card` is empty."""
    template, numbers = json.loads(_TEMPLATE.read_text(encoding="utf-8")), np.random.default_rng(seed)
    for path, content in template["files"].items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for path, shapes in template["weights"].items():
        tensors = {name: numbers.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target, {"format": "pt"})
    (folder / "pictures").mkdir()
    (folder / "pictures" / "01.png").write_bytes(picture(SEED, PROMPT))
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
