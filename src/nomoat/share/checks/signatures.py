"""What a file is by its first and last bytes, and which kinds are turned away: those that can run when opened."""

from __future__ import annotations

import contextlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from nomoat.share.checks.pickles import is_pickle
from nomoat.share.errors import RefusedError

__all__ = ["HEAD_BYTES", "kind_of", "refuse_archive", "refuse_harmful"]

HEAD_BYTES = 8 << 10
_AS_SAFETENSORS = "save the weights as safetensors: `safetensors.torch.save_file`"
_UNPACKED = "send the files themselves: the hub needs no archive"
_NEVER = "a hub of models takes no programs"
# First bytes -> what they are, and what to do instead.
_HARMFUL = (
    (b"PK\x03\x04", "a zip archive, which PyTorch fills with pickles", _AS_SAFETENSORS),
    (b"PK\x05\x06", "a zip archive", _UNPACKED), (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACKED),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACKED), (b"\x1f\x8b", "packed by gzip", _UNPACKED),
    (b"BZh", "packed by bzip2", _UNPACKED), (b"\xfd7zXZ\x00", "packed by xz", _UNPACKED),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACKED), (b"\x04\x22\x4d\x18", "packed by lz4", _UNPACKED),
    (b"\x89HDF", "an HDF5 file, which can hold code", _AS_SAFETENSORS),
    (b"\x7fELF", "a program", _NEVER), (b"MZ", "a program", _NEVER), (b"#!", "a script", _NEVER),
    (b"\xfe\xed\xfa", "a program", _NEVER), (b"\xcf\xfa\xed\xfe", "a program", _NEVER),
    (b"\xce\xfa\xed\xfe", "a program", _NEVER),
    (b"\xca\xfe\xba\xbe", "a program", _NEVER), (b"\x00asm", "a program", _NEVER),
)  # fmt: skip
_KINDS = (
    (b"GGUF", "gguf"), (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"), (b"\x93NUMPY", "npy"),
)  # fmt: skip
_PAGE = re.compile(
    rb"\s*(<!doctype html|<html|<svg|<script|<\?xml[^>]*>\s*(<!--.*?-->\s*)?<svg)", re.IGNORECASE | re.DOTALL
)
_PAGE_ENDINGS = (".html", ".htm", ".svg", ".xml")
_PICKLE_HEAD, _FEW_BYTES, _MOST_LZMA_BYTES = re.compile(rb"\x80[\2-\5]"), 64, 32 << 20
# The record at the end of a zip archive, 22 bytes and a comment; whoever opens archives looks for it from the end.
_ZIP_END, _ZIP_END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 0xFFFF
_ZIP64_LOCATOR, _ZIP64_LOCATOR_BYTES, _ZIP_ENTRY = b"PK\x06\x07", 20, b"PK\x01\x02"


def kind_of(head: bytes) -> str:
    """gguf, png, jpeg, webp, parquet, arrow, npy, or "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _KINDS if head.startswith(start)), "")


def refuse_harmful(path: str, reader: BinaryIO, size_bytes: int) -> None:
    """Raise `RefusedError` where the file begins or ends like one that can run when it is opened."""
    reader.seek(0)
    head = reader.read(HEAD_BYTES)
    reader.seek(0)
    found = _harmful_head(path, head)
    if found is None and is_pickle(reader):
        found = ("a pickle, which can run any program when it is loaded", _AS_SAFETENSORS)
    if found is not None:
        raise RefusedError(f"{path}: byte 0: it is {found[0]}", found[1])
    refuse_archive(path, reader, size_bytes)


def refuse_archive(path: str, reader: BinaryIO, size_bytes: int) -> None:
    """Raise `RefusedError` where a zip archive stands at the end of a file that begins as something else."""
    place = _zip_end(reader, size_bytes)
    if place is not None:
        raise RefusedError(
            f"{path}: byte {place:,}: a zip archive ends here, hidden behind something else", _UNPACKED
        )


def _harmful_head(path: str, head: bytes) -> tuple[str, str] | None:
    """What it is, and what to do instead."""
    for start, what, remedy in _HARMFUL:
        if head.startswith(start):
            return what, remedy
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACKED
    # A page that says so is handed out as a download, and never opened here.
    if _PAGE.match(head[:4096]) and not path.lower().endswith(_PAGE_ENDINGS):
        return "a web page or SVG, which can run scripts", "send text, or a picture as PNG, JPEG or WebP"
    if head.startswith(b"\x93NUMPY") and b"'|O'" in head[:256]:
        return "an array of Python objects, which are pickled", _AS_SAFETENSORS
    if any(_PICKLE_HEAD.match(unpacked) for unpacked in _unpacked(head)):
        return "a packed pickle, which can run any program when it is loaded", _AS_SAFETENSORS
    return None


def _unpacked(head: bytes) -> Iterator[bytes]:
    """The first bytes by the ways of packing whose own head is too short to tell (joblib has them)."""
    for unpack in (
        zlib.decompressobj().decompress,
        lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MOST_LZMA_BYTES).decompress,
    ):
        with contextlib.suppress(zlib.error, lzma.LZMAError, EOFError):
            yield unpack(head, _FEW_BYTES)


def _zip_end(reader: BinaryIO, size_bytes: int) -> int | None:
    """Where the record at the end of an archive that holds something stands; None where there is none.

    Programs forgive bytes behind it and before the archive, so neither makes it harmless.
    """
    begin = max(0, size_bytes - _ZIP_END_BYTES - _LONGEST_COMMENT)
    reader.seek(begin)
    tail = reader.read(_ZIP_END_BYTES + _LONGEST_COMMENT)
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        # Four letters come up by chance; that the list of files stands where the record says so does not.
        place, listed = begin + at, int.from_bytes(tail[at + 12 : at + 16], "little")
        if listed and _bytes_at(reader, place - listed, 4) == _ZIP_ENTRY:
            return place
        if _bytes_at(reader, place - _ZIP64_LOCATOR_BYTES, 4) == _ZIP64_LOCATOR:
            return place
        at = tail.rfind(_ZIP_END, 0, at)
    return None


def _bytes_at(reader: BinaryIO, place: int, size: int) -> bytes:
    if place < 0:
        return b""
    reader.seek(place, io.SEEK_SET)
    return reader.read(size)
