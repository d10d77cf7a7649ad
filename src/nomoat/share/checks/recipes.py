"""How a picture was made, as the programs that make pictures write it: prompt, seed, sampler and the like.

Formats: the `parameters` text of the Stable Diffusion web UI (also Forge, SD.Next), and ComfyUI's `prompt` graph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["recipe_of"]

_LONGEST_PROMPT, _LONGEST = 4000, 200
_LONGEST_SETTINGS = 4000  # letters of the line with the settings: reading it takes quadratic time
_KEYS = {"seed": "Seed", "sampler": "Sampler", "steps": "Steps", "cfg_scale": "CFG scale", "model": "Model"}
_PAIR = re.compile(r'([A-Z][A-Za-z0-9 /+-]{0,40}): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)')
_LINKS = ("text", "conditioning", "conditioning_1", "positive")
_MOST_STEPS = 20  # nodes from a sampler to its text


def recipe_of(texts: Mapping[str, str]) -> dict[str, str]:
    """`prompt`, `negative_prompt`, `seed`, `sampler`, `steps`, `cfg_scale`, `model`: what is known of them."""
    found: dict[str, Any] = {}
    if "parameters" in texts:
        found = _web_ui(texts["parameters"])
    elif "prompt" in texts:
        found = _comfy(texts["prompt"])
    return {name: text for name, value in found.items() if (text := _clean(name, value))}


def _clean(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    text = "".join(letter for letter in str(value) if letter.isprintable() or letter == "\n").strip()
    return text[: _LONGEST_PROMPT if name.endswith("prompt") else _LONGEST]


def _web_ui(text: str) -> dict[str, Any]:
    body, _, last = text.rpartition("\n")
    if len(last) > _LONGEST_SETTINGS or not re.search(r"\bSteps: \d", last):
        body, last = text, ""
    prompt, _, negative = body.partition("Negative prompt:")
    pairs = {name.strip(): value.strip('"') for name, value in _PAIR.findall(last)}
    return {"prompt": prompt, "negative_prompt": negative} | {
        name: pairs.get(key) for name, key in _KEYS.items()
    }


def _comfy(text: str) -> dict[str, Any]:
    try:
        graph = json.loads(text) if len(text) < 1 << 20 else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(graph, dict):
        return {}
    inputs = next((_inputs(node) for node in graph.values() if "KSampler" in _class_of(node)), None)
    if inputs is None:
        return {}
    model = next((_inputs(node).get("ckpt_name") or _inputs(node).get("unet_name") for node in graph.values()
                  if "Loader" in _class_of(node) and "Lora" not in _class_of(node)), "")  # fmt: skip
    return {
        "prompt": _text_behind(graph, inputs.get("positive")), "sampler": inputs.get("sampler_name"),
        "negative_prompt": _text_behind(graph, inputs.get("negative")), "steps": inputs.get("steps"),
        "seed": inputs.get("seed", inputs.get("noise_seed")), "cfg_scale": inputs.get("cfg"), "model": model,
    }  # fmt: skip


def _class_of(node: Any) -> str:
    return str(node.get("class_type", "")) if isinstance(node, dict) else ""


def _inputs(node: Any) -> dict[str, Any]:
    found = node.get("inputs") if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def _text_behind(graph: dict[str, Any], link: Any) -> str:
    """The text at the end of a chain of nodes."""
    for _ in range(_MOST_STEPS):
        if not isinstance(link, list) or not link:
            return ""
        inputs = _inputs(graph.get(str(link[0])))
        for key in ("text", "text_g", "t5xxl", "string"):
            if isinstance(inputs.get(key), str):
                return str(inputs[key])
        link = next((inputs[key] for key in _LINKS if key in inputs), None)
    return ""
