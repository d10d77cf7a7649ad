"""A strict reading of safetensors headers. Nothing of the weights is read; every byte of the file is accounted for.

Source: the safetensors format (github.com/huggingface/safetensors). Stricter: fewer tensors and a shorter header.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from nomoat.share.errors import RefusedError

__all__ = ["SafeTensor", "SafeTensors", "read_header"]

# A checkpoint of 1,000 B parameters has some 100,000 tensors in all of its files together.
_MOST_HEADER_BYTES, _MOST_TENSORS, _MOST_DIMENSIONS = 25 << 20, 100_000, 16
_MOST_ELEMENTS = 1 << 62
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_REMEDY = "save it again with the safetensors library"


@dataclass(frozen=True)
class SafeTensor:
    """A tensor of the file, by its header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def n_elements(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafeTensors:
    """The header of a file."""

    tensors: tuple[SafeTensor, ...]
    metadata: dict[str, str]


def read_header(path: str, reader: BinaryIO, size_bytes: int) -> SafeTensors:
    """The header of the file. Raises `RefusedError`, naming the place."""
    first = reader.read(8)
    if len(first) < 8:
        _refuse(path, "byte 0", "it is too short for a safetensors file")
    (length,) = struct.unpack("<Q", first)
    if not 2 <= length <= min(_MOST_HEADER_BYTES, size_bytes - 8):
        _refuse(
            path,
            "byte 0",
            f"a header of {length:,} bytes cannot be, or is longer than {_MOST_HEADER_BYTES:,}",
        )
    content = reader.read(length)
    # Before it is parsed, which would take twenty times its size.
    if content.count(b"{") > _MOST_TENSORS + 2 or content.count(b"[") > 2 * _MOST_TENSORS:
        _refuse(path, "header", f"it lists more than {_MOST_TENSORS:,} tensors")
    if not content.startswith(b"{"):
        _refuse(path, "byte 8", "the header is no JSON object")
    header = _parsed(path, content)
    metadata = _metadata(path, header.pop("__metadata__", {}))
    tensors = sorted(
        (_tensor(path, name, row) for name, row in header.items()), key=lambda each: (each.start, each.end)
    )
    _check_layout(path, tensors, size_bytes - 8 - length)
    return SafeTensors(tuple(tensors), metadata)


def _parsed(path: str, content: bytes) -> dict[str, Any]:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"{name[:80]!r} is there twice")
            found[name] = value
        return found

    try:
        header: dict[str, Any] = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
        json.dumps(header, ensure_ascii=False).encode()  # half a character, escaped, is none
    except (ValueError, RecursionError) as error:
        _refuse(path, "header", f"it is no sound JSON ({str(error)[:200]})")
    return header


def _metadata(path: str, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "header, '__metadata__'", "it must hold nothing but texts")
    return metadata


def _tensor(path: str, name: str, row: Any) -> SafeTensor:
    place = f"header, tensor {name[:120]!r}"
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, place, "it must have a dtype, a shape and data_offsets, and nothing else")
    shape, offsets, dtype = row["shape"], row["data_offsets"], row["dtype"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        _refuse(path, place, f"the type {str(dtype)[:40]!r} is not known")
    if not _numbers(shape) or len(shape) > _MOST_DIMENSIONS or not _numbers(offsets) or len(offsets) != 2:
        _refuse(path, place, "its shape or its offsets are no list of numbers")
    elements = math.prod(shape)
    start, end = offsets
    if elements > _MOST_ELEMENTS or end < start or (end - start) * 8 != elements * bits:
        _refuse(path, place, f"{end - start:,} bytes do not hold {elements:,} numbers of {dtype}")
    return SafeTensor(name, dtype, tuple(shape), start, end)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each <= _MOST_ELEMENTS for each in value
    )


def _check_layout(path: str, tensors: list[SafeTensor], size_bytes: int) -> None:
    """Tensors follow each other from the first byte to the last: no overlap, and no room for anything else."""
    at = 0
    for tensor in tensors:
        if tensor.start != at:
            fault = "overlaps the one before it" if tensor.start < at else "leaves a gap before it"
            _refuse(path, f"header, tensor {tensor.name[:120]!r}", fault)
        at = tensor.end
    if at != size_bytes:
        _refuse(path, f"byte {at:,} of the data", f"the tensors end here, the file has {size_bytes:,} bytes")


def _refuse(path: str, place: str, problem: str) -> NoReturn:
    raise RefusedError(f"{path}: {place}: {problem}", _REMEDY)
