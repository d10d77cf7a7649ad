"""Parts made by the gguf library, joined by nomoat, read by both."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from nomoat.base.errors import BadFileError
from nomoat.base.progress import Silent
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_merge import merge_gguf


def _write(path: Path, per_part: int) -> None:
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=per_part)
    writer.add_uint8("a.byte", 7)
    writer.add_float64("a.double", 1e-300)
    writer.add_bool("a.flag", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "längere", ""])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_int64("a.long", -(2**40))
    random = np.random.default_rng(0)
    for number in range(7):
        values = random.normal(size=(3 + number, 64)).astype(np.float32)
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"blk.{number}.w", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    _write(tmp_path / "model.gguf", 3)
    return sorted(tmp_path.glob("model-*.gguf"))


def _content(path: Path) -> tuple[dict[str, object], dict[str, tuple[list[int], bytes]]]:
    reader = gguf.GGUFReader(path)
    fields = {
        name: (field.types, [bytes(part) for part in field.parts[3:]])
        for name, field in reader.fields.items()
        if not name.startswith(("GGUF.", "split."))
    }
    return fields, {t.name: (t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}


def test_joined_parts_are_the_undivided_file(parts: list[Path], tmp_path: Path) -> None:
    assert len(parts) == 3
    _write(tmp_path / "whole.gguf", 0)
    merge_gguf(parts, tmp_path / "joined.gguf", Silent())
    assert _content(tmp_path / "joined.gguf") == _content(tmp_path / "whole.gguf")
    assert "split.count" not in read_gguf(tmp_path / "joined.gguf").metadata


@pytest.mark.parametrize("change", ["missing", "order", "another"])
def test_other_parts_are_refused(parts: list[Path], tmp_path: Path, change: str) -> None:
    if change == "missing":
        parts = parts[:2]
    elif change == "order":
        parts = [parts[0], parts[2], parts[1]]
    else:
        parts = [parts[0], parts[0], parts[2]]
    with pytest.raises(BadFileError):
        merge_gguf(parts, tmp_path / "joined.gguf", Silent())
    assert not (tmp_path / "joined.gguf").exists()
