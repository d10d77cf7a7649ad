"""The GGUF reader believes nothing, and agrees with the reference reader on a real model."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.formats.ggml_types import GGMLType, block_layout
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.gguf_parse import parse_header
from nomoat.formats.gguf_write import write_gguf

_METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "a.negative": -5,
    "a.large": 1 << 40,
    "a.float": 1.5,
    "a.flag": True,
    "a.tokens": ["<s>", "é", "🙂", ""],
    "a.numbers": [1, 2, 3],
    "a.flags": [True, False],
    "a.floats": [0.5, -0.5],
}
_TENSORS = {
    "blk.0.attn_q.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "output_norm.weight": np.ones(5, np.float16),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(path, _METADATA, _TENSORS)
    return path


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _file(tmp_path: Path, *, version: int = 3, tensors: list[bytes] = [], keys: list[bytes] = [],  # noqa: B006
          magic: bytes = b"GGUF", data: int = 4096) -> Path:  # fmt: skip
    path = tmp_path / "made.gguf"
    header = (
        magic + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    )
    path.write_bytes(header + b"\0" * (-len(header) % 32) + b"\0" * data)
    return path


def _tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return _string(name) + struct.pack(f"<I{len(shape)}qIQ", len(shape), *shape, kind, offset)


def test_reader_agrees_with_the_reference_reader_on_the_real_model(smollm2_path: Path) -> None:
    ours, reference = read_gguf(smollm2_path), gguf.GGUFReader(smollm2_path)
    theirs = {
        t.name: (
            tuple(map(int, t.shape)),
            int(t.tensor_type),
            t.data_offset,
            int(t.n_bytes),
            int(t.n_elements),
        )
        for t in reference.tensors
    }
    assert theirs == {
        t.name: (t.shape, int(t.ggml_type), t.offset, t.nbytes, t.n_elements) for t in ours.tensors.values()
    }
    assert ours.metadata == {
        key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")
    }
    assert (ours.architecture, ours.hyperparameter("block_count")) == ("llama", 30)
    last = reference.tensors[-1]
    assert np.array_equal(ours.raw(last.name), last.data.reshape(-1).view(np.uint8))


def test_block_layouts_agree_with_the_reference() -> None:
    for kind, layout in gguf.GGML_QUANT_SIZES.items():
        if kind != gguf.GGMLQuantizationType.Q8_1:  # the package counts its scales as float32
            assert block_layout(GGMLType(int(kind))) == layout


def test_what_the_writer_writes_the_reader_and_the_reference_read(small: Path) -> None:
    ours, reference = read_gguf(small), gguf.GGUFReader(small)
    assert ours.metadata == _METADATA
    for name, array in _TENSORS.items():
        assert np.array_equal(ours.raw(name).view(array.dtype).reshape(array.shape), array)
    assert [np.array_equal(t.data, _TENSORS[t.name]) for t in reference.tensors] == [True, True]
    assert reference.fields["a.tokens"].contents() == _METADATA["a.tokens"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"magic": b"PK\3\4"}, "not with GGUF"),
        ({"version": 0x03000000}, "big-endian"),
        ({"version": 1}, "version 1"),
        ({"keys": [_string(b"k") + struct.pack("<IB", 0, 1)] * 2}, "'k' is there twice"),
        ({"keys": [_string(b"") + struct.pack("<IB", 0, 1)]}, "key is empty"),
        ({"keys": [_string(b"\xff\xfe") + struct.pack("<IB", 0, 1)]}, "not UTF-8"),
        ({"keys": [_string(b"k") + struct.pack("<IB", 13, 1)]}, "value type 13"),
        ({"keys": [_string(b"k") + struct.pack("<IB", 7, 9)]}, "neither true nor false"),
        ({"keys": [_string(b"k") + struct.pack("<IIQ", 9, 9, 1)]}, "array of arrays"),
        ({"keys": [_string(b"k") + struct.pack("<IIQ", 9, 4, 1 << 60)]}, "are left"),
        ({"keys": [_string(b"k") + struct.pack("<IIQQ", 9, 8, 1, 1 << 62)]}, "element 0 of 1"),
        ({"keys": [_string(b"k") + struct.pack("<IQ", 8, 1 << 63)]}, "are left"),
        ({"keys": [_string(b"general.alignment") + struct.pack("<II", 4, 33)]}, "power of two"),
        ({"tensors": [_tensor(b"t", (8,)), _tensor(b"t", (8,), 0, 32)]}, "there twice"),
        ({"tensors": [_tensor(b"", (8,))]}, "name of 0 bytes"),
        ({"tensors": [_tensor(b"n" * 64, (8,))]}, "name of 64 bytes"),
        ({"tensors": [_tensor(b"t", (-8,))]}, "cannot be"),
        ({"tensors": [_tensor(b"t", (0,))]}, "cannot be"),
        ({"tensors": [_tensor(b"t", (1 << 40, 1 << 40))]}, "cannot be"),
        ({"tensors": [_tensor(b"t", (1, 1, 1, 1, 1))]}, "5 dimensions"),
        ({"tensors": [_tensor(b"t", (8,), 4)]}, "tensor type 4"),
        ({"tensors": [_tensor(b"t", (33,), 3)]}, "blocks of 32"),
        ({"tensors": [_tensor(b"t", (8,), 0, 8)]}, "multiple of the alignment"),
        ({"tensors": [_tensor(b"t", (16,)), _tensor(b"u", (8,), 0, 32)]}, "overlaps"),
        ({"tensors": [_tensor(b"t", (8,)), _tensor(b"u", (8,), 0, 64)]}, "gap"),
        ({"tensors": [_tensor(b"t", (2048,))]}, "4,096 of"),
    ],
)  # fmt: skip
def test_every_malformed_file_is_refused_with_its_place(
    tmp_path: Path, made: dict[str, Any], expected: str
) -> None:
    path = _file(tmp_path, **made)
    with pytest.raises(BadFileError, match=expected) as caught:
        read_gguf(path)
    assert caught.value.message.startswith(str(path)) and "byte" in caught.value.place
    assert caught.value.hint


def test_a_truncated_model_is_refused_with_the_missing_bytes(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    end = read_gguf(small).tensors["output_norm.weight"]
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(content[: end.offset + end.nbytes - 7])
    with pytest.raises(BadFileError, match=r"output_norm.weight.*7 of .* bytes are missing") as caught:
        read_gguf(cut)
    assert "cut short" in caught.value.hint


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(BadFileError, match="cannot be read"):
        read_gguf(tmp_path)
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(BadFileError, match="only 0 bytes"):
        read_gguf(empty)


def test_missing_keys_are_refused_when_they_are_asked_for(tmp_path: Path) -> None:
    empty = read_gguf(_file(tmp_path))
    with pytest.raises(BadFileError, match=r"general.architecture.*is missing"):
        _ = empty.architecture
    with pytest.raises(BadFileError, match="not in the file"):
        empty.raw("blk.0.attn_q.weight")


def _parses_or_refuses(content: bytes) -> None:
    path = Path("fuzzed.gguf")
    tracemalloc.start()
    try:
        header = parse_header(content, len(content), path)
        assert all(header.data_offset + e.relative_offset + e.nbytes <= len(content) for e in header.tensors)
    except BadFileError as error:
        assert error.hint
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_cut_at_any_byte_it_is_refused(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    last = list(read_gguf(small).tensors.values())[-1]
    for length in range(last.offset + last.nbytes):
        _parses_or_refuses(content[:length])
        with pytest.raises(BadFileError):
            parse_header(content[:length], length, small)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_a_valid_file_or_a_typed_error(small: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    header_bytes = read_gguf(small).data_offset
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    _parses_or_refuses(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_after_the_magic_are_survived(rest: bytes) -> None:
    _parses_or_refuses(b"GGUF\3\0\0\0" + rest)


def test_the_result_is_a_value(small: Path) -> None:
    assert isinstance(read_gguf(str(small)), GGUFFile) and read_gguf(small) == read_gguf(small)
