"""The inspection of a hub: facts of a file that is about to become visible, or the reason why it may not."""

from __future__ import annotations

import io
import json
from typing import Any, BinaryIO

from nomoat.base.errors import InputError
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.checks.gguf import gguf_facts, read_gguf_header
from nomoat.share.checks.pictures import picture_facts
from nomoat.share.checks.safetensors import read_header
from nomoat.share.checks.signatures import HEAD_BYTES, kind_of, refuse_harmful
from nomoat.share.checks.template_trial import try_template
from nomoat.share.checks.weights import safetensors_facts
from nomoat.share.errors import RefusedError

__all__ = ["inspect"]

_PICTURES = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
_MOST_JSON_BYTES, _MOST_CARD_BYTES = 64 << 20, 4 << 20
_TEMPLATE_KEY = "tokenizer.chat_template"


def inspect(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """Facts as `Inspection` has them. Raises `RefusedError`, naming file, place and remedy.

    A file that says by its name what it is must be that; one that can run when it is opened is refused whatever its
    name. Other content is taken as it is: the hub never opens it, and hands it out as a download only.
    """
    head = reader.read(HEAD_BYTES)
    reader.seek(0)
    refuse_harmful(path, head)
    ending, kind = path.lower().rpartition(".")[2], kind_of(head)
    if kind == "gguf" or ending == "gguf":
        return _gguf(path, reader, size_bytes)
    if ending == "safetensors":
        return safetensors_facts(path, read_header(path, reader, size_bytes))
    if kind in _PICTURES.values() or ending in _PICTURES:
        return picture_facts(path, kind or _PICTURES[ending], reader, size_bytes)
    if ending == "json":
        return _json(path, reader, size_bytes)
    if path.rpartition("/")[2].lower() == "readme.md":
        return _card(path, reader, size_bytes)
    return {"format": kind or ("text" if _is_text(head) else "other")}


def _gguf(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    header = read_gguf_header(path, reader, size_bytes)
    facts = gguf_facts(path, header, size_bytes)
    template = header.metadata.get(_TEMPLATE_KEY)
    return facts | ({"chat_template": try_template(template)} if isinstance(template, str) else {})


def _json(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    if size_bytes > _MOST_JSON_BYTES:
        raise RefusedError(
            f"{path}: {size_bytes:,} bytes are too many for one JSON value", "send it as JSON lines"
        )
    try:
        json.loads(reader.read(size_bytes).decode("utf-8"))
    except RecursionError as error:
        raise RefusedError(f"{path}: it is nested too deeply", "flatten it") from error
    except ValueError as error:
        raise RefusedError(
            f"{path}: it is no JSON ({str(error)[:200]})", "name it otherwise, or mend it"
        ) from error
    return {"format": "json"}


def _card(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    if size_bytes > _MOST_CARD_BYTES:
        raise RefusedError(
            f"{path}: {size_bytes:,} bytes are too many for a card", "move the rest to another file"
        )
    try:
        split_front_matter(io.TextIOWrapper(reader, encoding="utf-8").read())
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{path}: byte {error.start:,}: it is no UTF-8 text", "save it as UTF-8"
        ) from error
    except InputError as error:
        raise RefusedError(f"{path}: {error.message}", error.hint) from error
    return {"format": "markdown"}


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and b"\0" not in head
    return b"\0" not in head
