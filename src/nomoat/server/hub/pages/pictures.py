"""Pictures that users sent, shown only as this hub drew them anew: decoded with limits, small, without metadata."""

from __future__ import annotations

import hashlib
import hmac
import io
from pathlib import Path

from nomoat.base.errors import NotFoundError
from nomoat.base.files import atomic_write
from nomoat.server.hub.hub import Hub
from nomoat.share.errors import RefusedError

__all__ = [
    "FULL",
    "LARGE",
    "PICTURE_ENDINGS",
    "SMALL",
    "is_picture",
    "picture_url",
    "proof_of",
    "small_picture",
]

SMALL, LARGE, FULL = 320, 640, 1600
_WIDTHS = (SMALL, LARGE, FULL)
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_MOST_PIXELS = 64_000_000
_MOST_BYTES = 64 << 20
_QUALITY = 82


def is_picture(path: str) -> bool:
    """Whether a file's name says that it is a picture that pages can show."""
    return path.lower().endswith(PICTURE_ENDINGS)


def picture_url(hub: Hub, digest: str, width: int) -> str:
    """Where to find a picture, at most `width` wide. Only who was shown this address can ask for it."""
    name = digest.removeprefix("sha256:")
    return f"{hub.config.files_url}/userfiles/picture/{name}/{width}.webp?k={proof_of(hub, digest, width)}"


def proof_of(hub: Hub, digest: str, width: int) -> str:
    """What shows that this hub gave the address out: pictures may be of private repositories."""
    return hmac.new(hub.link_key, f"picture {digest} {width}".encode(), hashlib.sha256).hexdigest()[:32]


def small_picture(hub: Hub, digest: str, width: int) -> Path:
    """The file of the picture as this hub drew it, made now if need be (so not by many threads at once).

    Raises `RefusedError` for what is no picture or too large, `NotFoundError`, `DamagedBlobError`.
    """
    if width not in _WIDTHS:
        raise RefusedError(f"no picture is {width} wide here", f"ask for one of {_WIDTHS}")
    name = digest.removeprefix("sha256:")
    if hub.registry.blobs.known(digest) is None:
        raise NotFoundError("that picture is gone", "reload the page that shows it")
    target = hub.registry.config.root / "thumbnails" / name[:2] / f"{name}-{width}.webp"
    if not target.exists():
        atomic_write(target, _drawn_anew(hub, digest, width))
    return target


def _drawn_anew(hub: Hub, digest: str, width: int) -> bytes:
    from PIL import Image, ImageOps

    with hub.registry.store.open(digest) as source:
        content = source.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise RefusedError("the picture's file is too large to be shown", "download it instead")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
            # Asked before anything is decoded: the header of a small file can announce any size.
            if picture.width * picture.height > _MOST_PIXELS:
                raise RefusedError("the picture has too many pixels to be shown", "send a smaller one")
            picture.draft("RGB", (width, width * 4))
            shown = ImageOps.exif_transpose(picture)
            shown.thumbnail((width, width * 4))
            with_alpha = "A" in shown.getbands() or "transparency" in shown.info
            written = io.BytesIO()
            shown.convert("RGBA" if with_alpha else "RGB").save(written, "WEBP", quality=_QUALITY, method=4)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RefusedError(
            "this is no whole PNG, JPEG or WebP picture", "save it again and resend it"
        ) from error
    return written.getvalue()
