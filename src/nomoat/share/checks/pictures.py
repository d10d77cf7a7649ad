"""Pictures: decoded with limits, and what they say of how they were made."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from nomoat.base.errors import OverloadedError
from nomoat.share.checks.picture_ends import refuse_more
from nomoat.share.checks.recipes import recipe_of
from nomoat.share.errors import RefusedError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["decoding", "picture_facts", "require_decodable"]

_MOST_BYTES, _MOST_DECODED_BYTES = 64 << 20, 100 << 20
# What a decoder holds of each pixel, as measured: of WebP four frames, of progressive JPEG all coefficients; of plain
# JPEG lines only, and an eighth of each side is kept.
_BYTES_PER_PIXEL = {"PNG": 4, "WEBP": 16, "JPEG": 1}
_BYTES_PER_PROGRESSIVE_PIXEL = 6
_PATIENCE_SECONDS = 60.0
_TURN = threading.Lock()  # of the process, as its memory is
_USER_COMMENT, _EXIF = 0x9286, 0x8769
_REMEDY = "save it again as PNG, JPEG or WebP"


def picture_facts(path: str, kind: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """Size and recipe of a picture. Raises `RefusedError` where it is damaged, cut short, a bomb or hides more."""
    if size_bytes > _MOST_BYTES:
        raise RefusedError(f"{path}: {size_bytes:,} bytes are too many for a picture", "send a smaller one")
    try:
        with decoding():
            size, texts = _decoded(path, kind, reader)
        refuse_more(path, kind, reader, size_bytes)
    except (RefusedError, OverloadedError):
        raise
    except Exception as error:  # decoders fail in any way on what was made to let them fail
        raise RefusedError(f"{path}: it cannot be decoded ({str(error)[:200]})", _REMEDY) from error
    return {"format": kind, "picture": size | recipe_of(texts)}


def _decoded(path: str, kind: str, reader: BinaryIO) -> tuple[dict[str, Any], dict[str, str]]:
    """Size and texts. The pixels are gone when it returns: the next in the queue needs the room."""
    from PIL import Image as images

    with warnings.catch_warnings(action="ignore"), images.open(reader, formats=(kind.upper(),)) as picture:
        require_decodable(path, picture)
        size = {"width": picture.width, "height": picture.height}
        picture.draft(
            "RGB", (picture.width // 8, picture.height // 8)
        )  # a JPEG is read whole, and kept small
        picture.load()
        texts = {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
        comment = _comment(picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT))
    if comment:
        texts.setdefault("parameters", comment)
    return size, texts


def require_decodable(path: str, picture: Image) -> None:
    """Raise `RefusedError` where decoding takes too much memory: a small file's header can announce any size."""
    each = (
        _BYTES_PER_PROGRESSIVE_PIXEL
        if "progressive" in picture.info
        else _BYTES_PER_PIXEL[str(picture.format)]
    )
    most = _MOST_DECODED_BYTES // each
    if picture.width * picture.height > most:
        raise RefusedError(f"{path}: {picture.width:,} x {picture.height:,} pixels are too many",
                           f"send at most {most:,} as {picture.format}")  # fmt: skip


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """One picture at a time in this process. Raises `OverloadedError` after a minute of waiting."""
    if not _TURN.acquire(timeout=_PATIENCE_SECONDS):
        raise OverloadedError("too many pictures are being looked into", "send it again in a minute")
    try:
        yield
    finally:
        _TURN.release()


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
