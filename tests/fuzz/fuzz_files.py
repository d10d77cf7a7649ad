"""Files of any name: pictures with their texts, and what is told by first and last bytes."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["nomoat", "PIL", "pickletools"]):
    from nomoat.share.checks.inspect import inspect
    from nomoat.share.checks.pictures import picture_facts

import numpy as np
from harness import fuzz
from PIL import Image, PngImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_NAMES = ("a.png", "a.jpg", "a.webp", "a.bin", "a.txt", "a.json", "a.npy", "a.svg")
_TEXT = "a lighthouse\nNegative prompt: people\nSteps: 28, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 12345"


def read(data: bytes) -> None:
    """Under a name that the bytes choose, after the checksums of a PNG were made right again."""
    content = _with_checksums(data) if data.startswith(_PNG) else data
    if content is not data:
        picture_facts("a.png", "png", io.BytesIO(content), len(content))
    inspect(_NAMES[zlib.crc32(data[-4:]) % len(_NAMES)], io.BytesIO(content), len(content))


def _with_checksums(data: bytes) -> bytes:
    found, at = bytearray(_PNG), len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        length = min(length, len(data) - at - 12)
        body = data[at + 4 : at + 8 + length]
        found += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(found + data[at:])


def seeds() -> Iterator[bytes]:
    """Pictures that say how they were made, in each format; an array; a pickle of plain values."""
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("parameters", _TEXT)
    info.add_itxt("prompt", '{"3": {"class_type": "KSampler", "inputs": {"seed": 7}}}', zip=True)
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + _TEXT.encode("utf-16-be")
    for kind, named in (("PNG", {"pnginfo": info}), ("JPEG", {"exif": exif}), ("WEBP", {"exif": exif})):
        target = io.BytesIO()
        Image.new("RGB", (20, 15), "teal").save(target, kind, **named)
        yield target.getvalue()
    array = io.BytesIO()
    np.save(array, np.ones(3))
    yield array.getvalue()
    yield pickle.dumps({"a": [1, 2.5, "text"]}, 2)


if __name__ == "__main__":
    fuzz(read, seeds())
