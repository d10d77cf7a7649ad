"""safetensors files, as a hub looks into those that come in."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["nomoat"]):
    from nomoat.share.checks.safetensors import read_header
    from nomoat.share.checks.weights import safetensors_facts

import numpy as np
from harness import fuzz
from safetensors.numpy import save

from nomoat.share.errors import RefusedError

_WORDS = (
    b'"dtype":"', b'"shape":[', b'"data_offsets":[', b'"__metadata__":{', b'"F32"', b'"BF16"', b'"U8"',
    b"{}", b"[]", b"9223372036854775807", b"18446744073709551616", b"1e400", b"NaN", b"\\ud800",
    b".lora_A.weight", b"lora_unet_", b"ss_tag_frequency", b"ss_network_alpha", b"true", b"-1",
)  # fmt: skip


def read(data: bytes) -> None:
    """As it is; and its first bytes as the length of the data, the rest as a header whose own length is right."""
    header = data[2:]
    repaired = struct.pack("<Q", len(header)) + header
    size_bytes = len(repaired) + int.from_bytes(data[:2], "little")
    with contextlib.suppress(RefusedError):
        _facts(data, len(data))
    _facts(repaired, size_bytes)


def _facts(content: bytes, size_bytes: int) -> None:
    found = read_header("unet/m.safetensors", io.BytesIO(content), size_bytes)
    assert sum(tensor.end - tensor.start for tensor in found.tensors) < size_bytes
    json.dumps(safetensors_facts("unet/m.safetensors", found), allow_nan=False).encode()


def seeds() -> Iterator[bytes]:
    """Each file as it is, and its header alone after the length of its data."""
    for file in _files():
        (length,) = struct.unpack("<Q", file[:8])
        yield file
        yield (len(file) - 8 - length).to_bytes(2, "little") + file[8 : 8 + length]


def _files() -> Iterator[bytes]:
    """A PEFT adapter, an image LoRA as its trainers write it, and plain weights."""
    ones = np.ones((4, 8), np.float16)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    yield save({f"{name}A.weight": ones, f"{name}B.weight": ones.T.copy()}, {"format": "pt"})
    yield save({"lora_unet_down.lora_down.weight": ones, "lora_te2_text.alpha": np.ones((), np.float32)},
               {"ss_base_model_version": "sdxl_base_v1-0", "ss_network_alpha": "8.0",
                "ss_tag_frequency": '{"10_dunes": {"dunes style": 40, "hill": 3}}'})  # fmt: skip
    yield save({"a": np.zeros(0, np.int8), "b": np.ones(3, np.float64)})


if __name__ == "__main__":
    fuzz(read, seeds(), _WORDS)
