"""Strict parsing of a GGUF header from a buffer. Nothing is allocated before it is checked against the size.

The rules are those of llama.cpp's own reader, so that what passes here also loads there: tensors follow
each other without gap or overlap, names are short, arrays do not nest.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.formats.ggml_types import GGMLType, block_layout
from nomoat.formats.gguf_cursor import CUT_SHORT, MOST_ELEMENTS, Cursor

__all__ = ["MINIMUM_BYTES", "Header", "TensorEntry", "parse_header"]

MINIMUM_BYTES = 24
_CONVERT = "convert the model again with a current llama.cpp"

_ARRAY, _STRING, _BOOL = 9, 8, 7
# GGUF value type -> struct code of one value
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_KEY_BYTES = 8 + 1 + 4 + 1  # length, one letter, type, one-byte value
_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # length, one letter, dimensions' count, one dimension, type, offset
_MOST_KEYS = 1 << 16
_MOST_TENSORS = 1 << 20
_LONGEST_TENSOR_NAME = 63
_MOST_DIMENSIONS = 4
_MOST_BYTES = 1 << 62


@dataclass(frozen=True)
class TensorEntry:
    """A row of the tensor directory; `relative_offset` counts from the start of the data section."""

    name: str
    shape: tuple[int, ...]
    ggml_type: GGMLType
    relative_offset: int
    nbytes: int
    n_elements: int


@dataclass(frozen=True)
class Header:
    """What stands before the data section."""

    version: int
    metadata: dict[str, Any]
    tensors: list[TensorEntry]
    alignment: int
    data_offset: int


def parse_header(
    buffer: mmap.mmap | bytes, size: int, path: Path, *, most_elements: int = MOST_ELEMENTS
) -> Header:
    """Parse the header in `buffer`, the whole file of `size` bytes. Raises `BadFileError`.

    `most_elements` bounds the elements of all arrays together.
    """
    cursor = Cursor(buffer, size, path)
    cursor.elements_left = most_elements
    version = _version(cursor)
    n_tensors = _count(cursor, "tensors", _MOST_TENSORS, _TENSOR_BYTES)
    n_keys = _count(cursor, "metadata keys", _MOST_KEYS, _KEY_BYTES)
    metadata, alignment = _metadata(cursor, n_keys)
    tensors = _directory(cursor, n_tensors)
    data_offset = cursor.at
    if tensors:
        data_offset = _padded(cursor.at, alignment)
        _check_data(cursor, tensors, alignment, data_offset)
    return Header(version, metadata, tensors, alignment, data_offset)


def _version(cursor: Cursor) -> int:
    cursor.need(MINIMUM_BYTES, "a GGUF header")
    if cursor.buffer[:4] != b"GGUF":
        cursor.fail(f"starts with {bytes(cursor.buffer[:4])!r}, not with GGUF",
                    "name a model in GGUF form; safetensors and pickles must be converted first")  # fmt: skip
    cursor.at = 4
    version: int = cursor.scalar("I", "the version")
    if version & 0xFFFF == 0:
        cursor.fail("is in big-endian byte order", "take the little-endian file of this model", at=4)
    if version not in (2, 3):
        cursor.fail(f"is GGUF version {version}; versions 2 and 3 are known", _CONVERT, at=4)
    return version


def _count(cursor: Cursor, what: str, most: int, least_bytes: int) -> int:
    at = cursor.at
    count: int = cursor.scalar("q", f"the number of {what}")
    if not 0 <= count <= most:
        cursor.fail(f"{count:,} {what} cannot be", at=at)
    if count * least_bytes > cursor.size - cursor.at:
        cursor.fail(f"{count:,} {what} do not fit in {cursor.size:,} bytes", CUT_SHORT, at=at)
    return count


def _metadata(cursor: Cursor, n_keys: int) -> tuple[dict[str, Any], int]:
    metadata: dict[str, Any] = {}
    alignment = 32
    for index in range(n_keys):
        cursor.place = f"metadata key {index}"
        at = cursor.at
        key = cursor.string("the key")
        if not key or key in metadata:
            cursor.fail(f"key {key!r} is there twice" if key else "the key is empty", at=at)
        cursor.place = f"key {key!r}"
        kind = cursor.scalar("I", "the value's type")
        metadata[key] = _value(cursor, kind)
        if key == "general.alignment":
            alignment = metadata[key]
            if kind != 4 or alignment <= 0 or alignment & (alignment - 1):
                cursor.fail(f"alignment {alignment!r} is no power of two of type uint32", at=at)
    return metadata, alignment


def _value(cursor: Cursor, kind: int) -> Any:
    if kind == _ARRAY:
        return _array(cursor)
    if kind == _STRING:
        return cursor.string("the value")
    code = _SCALARS.get(kind)
    if code is None:
        cursor.fail(f"value type {kind} is unknown", at=cursor.at - 4)
    value = cursor.scalar(code, "the value")
    if kind != _BOOL:
        return value
    if value > 1:
        cursor.fail(f"{value} is neither true nor false", at=cursor.at - 1)
    return bool(value)


def _array(cursor: Cursor) -> list[Any]:
    at = cursor.at
    kind = cursor.scalar("I", "the array's type")
    count = cursor.scalar("Q", "the array's length")
    if kind == _ARRAY:
        cursor.fail("is an array of arrays, which llama.cpp does not read", _CONVERT, at=at)
    code = _SCALARS.get(kind)
    if code is None and kind != _STRING:
        cursor.fail(f"array type {kind} is unknown", at=at)
    cursor.need(count * (struct.calcsize("<" + code) if code else 8), f"an array of {count:,} elements")
    cursor.elements_left -= count
    if cursor.elements_left < 0:
        cursor.fail(f"arrays of more than {MOST_ELEMENTS:,} elements belong to no model", at=at)
    if code is None:
        return cursor.strings(count)
    values = list(struct.unpack_from(f"<{count}{code}", cursor.buffer, cursor.at))
    cursor.at += count * struct.calcsize("<" + code)
    if kind == _BOOL and any(value > 1 for value in values):
        cursor.fail("an element is neither true nor false", at=at)
    return [bool(value) for value in values] if kind == _BOOL else values


def _directory(cursor: Cursor, n_tensors: int) -> list[TensorEntry]:
    entries: list[TensorEntry] = []
    seen: set[str] = set()
    for index in range(n_tensors):
        cursor.place = f"tensor {index}"
        at = cursor.at
        name = cursor.string("the name")
        cursor.place = f"tensor {name!r}"
        if not 0 < len(name.encode()) <= _LONGEST_TENSOR_NAME:
            cursor.fail(
                f"a name of {len(name.encode())} bytes (1 to {_LONGEST_TENSOR_NAME} are allowed)", at=at
            )
        if name in seen:
            cursor.fail("is there twice", at=at)
        seen.add(name)
        entries.append(_entry(cursor, name))
    return entries


def _entry(cursor: Cursor, name: str) -> TensorEntry:
    at = cursor.at
    n_dimensions = cursor.scalar("I", "the number of dimensions")
    if not 1 <= n_dimensions <= _MOST_DIMENSIONS:
        cursor.fail(f"{n_dimensions} dimensions (1 to {_MOST_DIMENSIONS} are allowed)", at=at)
    shape = tuple(cursor.scalar("q", "a dimension") for _ in range(n_dimensions))
    n_elements = 1
    for dimension in shape:
        n_elements *= dimension
        if dimension <= 0 or n_elements > _MOST_BYTES:
            cursor.fail(f"shape {shape} cannot be", at=at)
    ggml_type = _tensor_type(cursor)
    per_block, block_bytes = block_layout(ggml_type)
    if shape[0] % per_block:
        cursor.fail(
            f"rows of {shape[0]} elements do not divide into {ggml_type.name} blocks of {per_block}", at=at
        )
    offset = cursor.scalar("Q", "the offset")
    return TensorEntry(name, shape, ggml_type, offset, n_elements // per_block * block_bytes, n_elements)


def _tensor_type(cursor: Cursor) -> GGMLType:
    code = cursor.scalar("I", "the type")
    try:
        return GGMLType(code)
    except ValueError:
        cursor.fail(f"tensor type {code} is unknown or withdrawn", _CONVERT, at=cursor.at - 4)


def _check_data(cursor: Cursor, tensors: list[TensorEntry], alignment: int, data_offset: int) -> None:
    expected = 0
    for entry in tensors:
        offset, cursor.place = entry.relative_offset, f"tensor {entry.name!r}"
        if offset != expected:
            fault = _offset_fault(offset, expected, alignment)
            cursor.fail(f"data offset {offset:,} {fault}; {expected:,} is expected", at=data_offset)
        expected = _padded(offset + entry.nbytes, alignment)
    # The last tensor's padding may be absent: llama.cpp does not read it either.
    end = data_offset + tensors[-1].relative_offset + tensors[-1].nbytes
    if end > cursor.size:
        first = next(e for e in tensors if data_offset + e.relative_offset + e.nbytes > cursor.size)
        cursor.place = f"tensor {first.name!r}"
        cursor.fail(f"{end - cursor.size:,} of {end:,} bytes are missing", CUT_SHORT, at=cursor.size)


def _offset_fault(offset: int, expected: int, alignment: int) -> str:
    if offset % alignment:
        return f"is not a multiple of the alignment {alignment}"
    return "overlaps the tensor before it" if offset < expected else "leaves a gap"


def _padded(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
