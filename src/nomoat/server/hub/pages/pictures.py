"""Pictures that users sent, shown only as this hub drew them anew: decoded with limits, small, without metadata."""

from __future__ import annotations

import hashlib
import hmac
import io
from pathlib import Path

from nomoat.base.errors import NotFoundError
from nomoat.base.files import atomic_write
from nomoat.server.hub.hub import Hub
from nomoat.share.checks.pictures import decoding, require_decodable
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
_MOST_BYTES = 64 << 20
_QUALITY = 82
_ORIENTATION, _LYING = 0x0112, range(5, 9)  # EXIF's, and those of its values by which width becomes height


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
    from PIL import Image

    with hub.registry.blobs.open(digest) as source:
        content = source.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise RefusedError("the picture's file is too large to be shown", "download it instead")
    try:
        with decoding():
            return _small_webp(content, width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RefusedError(
            "this is no whole PNG, JPEG or WebP picture", "save it again and resend it"
        ) from error


def _small_webp(content: bytes, width: int) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
        require_decodable("the picture", picture)
        # Made small before it is turned: whatever is done to the large one takes as much memory again.
        lies = picture.getexif().get(_ORIENTATION, 1) in _LYING
        box = (width * 4, width) if lies else (width, width * 4)
        picture.draft("RGB", box)
        picture.thumbnail(box)
        shown = ImageOps.exif_transpose(picture)
        with_alpha = "A" in shown.getbands() or "transparency" in shown.info
        written = io.BytesIO()
        shown.convert("RGBA" if with_alpha else "RGB").save(written, "WEBP", quality=_QUALITY, method=4)
    return written.getvalue()
