"""Pictures: decoded with limits, and what they say of how they were made."""

from __future__ import annotations

import io
import warnings
from typing import Any, BinaryIO

from nomoat.share.checks.recipes import recipe_of
from nomoat.share.errors import RefusedError

__all__ = ["picture_facts"]

_MOST_BYTES, _MOST_PIXELS = 64 << 20, 40_000_000
_USER_COMMENT, _EXIF = 0x9286, 0x8769
_REMEDY = "save it again as PNG, JPEG or WebP"


def picture_facts(path: str, kind: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """Size and recipe of a picture. Raises `RefusedError` where it is damaged, cut short or a bomb."""
    from PIL import Image

    if size_bytes > _MOST_BYTES:
        raise RefusedError(f"{path}: {size_bytes:,} bytes are too many for a picture", "send a smaller one")
    content = reader.read(size_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=(kind.upper(),)) as picture:
                # Asked before anything is decoded: the header of a small file can announce any size.
                if picture.width * picture.height > _MOST_PIXELS:
                    raise RefusedError(f"{path}: {picture.width:,} x {picture.height:,} pixels are too many",
                                       "send a smaller one")  # fmt: skip
                picture.load()
                size = {"width": picture.width, "height": picture.height}
                texts = {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
                comment = _comment(picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT))
    except RefusedError:
        raise
    except Exception as error:  # decoders fail in any way on what was made to let them fail
        raise RefusedError(f"{path}: it cannot be decoded ({str(error)[:200]})", _REMEDY) from error
    if comment:
        texts.setdefault("parameters", comment)
    return {"format": kind, "picture": size | recipe_of(texts)}


def _comment(value: Any) -> str:
    """EXIF's UserComment: eight bytes that name the encoding, then the text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes) or len(value) < 8:
        return ""
    if value.startswith(b"UNICODE\0"):
        text = value[8:]
        return text.decode("utf-16-le" if text[1:2] == b"\0" else "utf-16-be", "replace")
    return value[8:].decode("utf-8", "replace")
