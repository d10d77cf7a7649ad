"""Pictures: nothing hides behind their end, and what takes much memory to decode is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from nomoat.share.checks.inspect import inspect
from nomoat.share.errors import RefusedError


def look(path: str, content: bytes) -> dict[str, Any]:
    return inspect(path, io.BytesIO(content), len(content))


def picture(kind: str, **named: Any) -> bytes:
    target = io.BytesIO()
    Image.effect_noise((61, 43), 80).convert("RGB").save(target, kind, **named)
    return target.getvalue()


def zipped(comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("__main__.py", "print('owned')")
        archive.comment = comment
    return target.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("payload", [b"x", zipped(), b"<script>", b"MZ" + bytes(100), b"\0\0\0\0x"])
def test_nothing_hides_behind_a_picture(kind: str, payload: bytes) -> None:
    content = picture(kind)
    assert look("a", content)["picture"]["width"] == 61
    with pytest.raises(RefusedError, match=r"the picture ends here|zip archive"):
        look(f"a.{kind.lower()}", content + payload)


def test_jpegs_as_cameras_write_them() -> None:
    for named in (
        {},
        {"progressive": True},
        {"quality": 100, "subsampling": 0},
        {"restart_marker_blocks": 2},
    ):
        content = picture("JPEG", **named)
        exif = Image.Exif()
        exif[0x010E] = "\xff\xd9 not the end"
        with_exif = picture("JPEG", exif=exif, **named)
        for sound in (
            content,
            with_exif,
            content + bytes(64),
            content + with_exif,
            content + bytes(9) + content,
        ):
            assert look("a.jpg", sound)["format"] == "jpeg"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("tail", [b"", b"garbage"])
def test_an_archive_inside_another_file_is_found_where_programs_look_for_it(tail: bytes) -> None:
    ones = {"a": np.frombuffer(bytes(300) + zipped() + tail, np.uint8)}
    png = picture("PNG")
    inside = png[:-12] + chunk(b"prVt", zipped() + tail) + png[-12:]
    for name, content in (
        ("m.safetensors", save(ones)),
        ("a.png", inside),
        ("data.bin", b"data" * 9 + zipped(b"note") + tail),
    ):
        assert zipfile.is_zipfile(io.BytesIO(content)), name
        with pytest.raises(RefusedError, match="zip archive"):
            look(name, content)
    chance = {"a": np.frombuffer(bytes(99) + b"PK\x05\x06" + b"\7" * 90, np.uint8)}
    assert look("m.safetensors", save(chance))["tensors"] == 1


def test_what_takes_too_much_to_decode_is_refused() -> None:
    for kind, size, named in (
        ("PNG", (5300, 5300), {}),
        ("WEBP", (2700, 2600), {}),
        ("JPEG", (4500, 4500), {"progressive": True}),
    ):
        target = io.BytesIO()
        Image.new("L", size).save(target, kind, **named)
        with pytest.raises(RefusedError, match="pixels are too many"):
            look("a", target.getvalue())
