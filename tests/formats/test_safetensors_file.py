"""What is written is the same for the same content, so that a digest says something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from nomoat.formats.safetensors_file import read_safetensors, safetensors_bytes

TENSORS = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + i for i, name in enumerate(["b", "a", "ü"])}
METADATA = {"format": "pt", "base": "sha256:0", "details": json.dumps({"note": "ä"})}


def test_the_same_content_gives_the_same_bytes() -> None:
    assert len({safetensors_bytes(TENSORS, METADATA) for _ in range(30)}) == 1


def test_it_is_read_by_the_library_and_by_nomoat(tmp_path: Path) -> None:
    content = safetensors_bytes(TENSORS, METADATA)
    (tmp_path / "file.safetensors").write_bytes(content)
    ours, metadata = read_safetensors(tmp_path / "file.safetensors")
    assert metadata == METADATA
    for found in (load(content), ours):
        assert found.keys() == TENSORS.keys()
        assert all(np.array_equal(found[name], TENSORS[name]) for name in TENSORS)
