"""One GGUF file from the parts that `llama-gguf-split` made of it. The weights are copied, never changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_path
from nomoat.base.progress import Progress
from nomoat.formats.gguf_file import GGUFFile, TensorInfo, read_gguf

__all__ = ["merge_gguf"]

_VERSION = 3
_STRING, _ARRAY = 8, 9
# GGUF value type -> bytes of one value
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_COPY_BYTES = 8 << 20
_AGAIN = "fetch all parts of the same file again"


def merge_gguf(parts: Sequence[Path], target: Path, progress: Progress) -> None:
    """Write the model whose parts are `parts`, in order, to `target` in one step.

    Raises `BadFileError` where they are not all the parts of one file.
    """
    files = [read_gguf(part) for part in parts]
    _check(files)
    pairs = [pair for pair in _raw_pairs(files[0]) if not pair[0].startswith("split.")]
    tensors = [(file, tensor) for file in files for tensor in file.tensors.values()]
    alignment = files[0].alignment
    header = b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(pairs))
    header += b"".join(raw for _, raw in pairs) + _directory([tensor for _, tensor in tensors], alignment)
    progress.start(f"Joining {len(parts)} parts", sum(file.size_bytes for file in files) / 1e6, "MB")
    with atomic_path(target) as temporary, temporary.open("wb") as writer:
        writer.write(header + b"\0" * (-len(header) % alignment))
        for file, tensor in tensors:
            with file.path.open("rb") as reader:
                _copy(reader, tensor, writer)
            writer.write(b"\0" * (-tensor.nbytes % alignment))
            progress.advance(tensor.nbytes / 1e6)
    progress.finish()


def _check(files: Sequence[GGUFFile]) -> None:
    for number, file in enumerate(files):
        found = (file.metadata.get("split.no"), file.metadata.get("split.count"))
        if found != (number, len(files)):
            raise BadFileError(file.path, "key 'split.no'", f"is part {found[0]} of {found[1]}, "
                               f"not part {number} of {len(files)}", _AGAIN)  # fmt: skip
    names = [name for file in files for name in file.tensors]
    wanted = files[0].metadata.get("split.tensors.count", len(names))
    if len(set(names)) != len(names) or len(names) != wanted:
        raise BadFileError(files[0].path, "key 'split.tensors.count'",
                           f"{wanted} weights are announced, the parts hold {len(set(names))}", _AGAIN)  # fmt: skip


def _raw_pairs(file: GGUFFile) -> list[tuple[str, bytes]]:
    """Key and bytes of each metadata pair, as they stand: their exact types stay. The header was checked before."""
    if file.version < _VERSION - 1:
        raise BadFileError(file.path, "version", f"{file.version} is too old", "convert the model again")
    with file.path.open("rb") as handle:
        content = handle.read(file.data_offset)
    (count,) = struct.unpack_from("<Q", content, 16)
    at, pairs = 24, []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", content, at)
        key = content[at + 8 : at + 8 + length].decode("utf-8", "replace")
        kind_at = at + 8 + length
        end = _value_end(content, kind_at + 4, struct.unpack_from("<I", content, kind_at)[0])
        pairs.append((key, content[at:end]))
        at = end
    return pairs


def _value_end(content: bytes, at: int, kind: int) -> int:
    if kind == _STRING:
        return at + 8 + int(struct.unpack_from("<Q", content, at)[0])
    if kind != _ARRAY:
        return at + _SIZES[kind]
    item, count = struct.unpack_from("<IQ", content, at)
    at += 12
    if item != _STRING:
        return at + _SIZES[item] * int(count)
    for _ in range(count):
        at = _value_end(content, at, _STRING)
    return at


def _directory(tensors: Sequence[TensorInfo], alignment: int) -> bytes:
    rows: list[bytes] = []
    offset = 0
    for tensor in tensors:
        name = tensor.name.encode()
        rows.append(struct.pack("<Q", len(name)) + name)
        rows.append(struct.pack(f"<I{len(tensor.shape)}q", len(tensor.shape), *tensor.shape))
        rows.append(struct.pack("<IQ", int(tensor.ggml_type), offset))
        offset += -(-tensor.nbytes // alignment) * alignment
    return b"".join(rows)


def _copy(reader: BinaryIO, tensor: TensorInfo, writer: BinaryIO) -> None:
    os.lseek(reader.fileno(), tensor.offset, os.SEEK_SET)
    left = tensor.nbytes
    while left:
        chunk = os.read(reader.fileno(), min(_COPY_BYTES, left))
        if not chunk:
            raise BadFileError(reader.name, "", "became shorter while it was read", _AGAIN)
        writer.write(chunk)
        left -= len(chunk)
