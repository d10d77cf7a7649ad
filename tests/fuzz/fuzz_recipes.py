"""What pictures say of how they were made: the web UI's line of settings, and ComfyUI's graph."""

from __future__ import annotations

import json
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["nomoat"]):
    from nomoat.share.checks.recipes import recipe_of

from harness import fuzz

_WORDS = (
    b"Negative prompt:", b"\nSteps: 1", b"Sampler: ", b"Seed: ", b'Model: "', b'\\"',
    b'"class_type":"KSampler"', b'"inputs":{', b'"positive":["6",0]', b'"text":"',
    b'"conditioning":["6",0]', b"NaN", b"\\ud800", b"1e999",
)  # fmt: skip


def read(data: bytes) -> None:
    """Each value is a short text of printable letters."""
    text = data.decode("utf-8", "surrogateescape")
    for key in ("parameters", "prompt"):
        for value in recipe_of({key: text}).values():
            assert isinstance(value, str) and len(value) <= 4000
            value.encode()


def seeds() -> Iterator[bytes]:
    """As the programs write them."""
    yield (b"a lighthouse, <lora:dunes:0.8>\nin fog\nNegative prompt: people, text\nSteps: 28, Sampler: DPM++ 2M, "
           b'CFG scale: 6.5, Seed: 12345, Size: 40x30, Model: "base, v1", Version: v1.9')  # fmt: skip
    yield json.dumps({
        "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "cfg": 8, "sampler_name": "euler",
                                                   "positive": ["6", 0], "negative": ["7", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl.safetensors"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "an old bridge"}},
        "7": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0]}},
    }).encode()  # fmt: skip


if __name__ == "__main__":
    fuzz(read, seeds(), _WORDS)
