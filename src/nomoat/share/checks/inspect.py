"""The inspection of a hub: facts of a file that is about to become visible, or the reason why it may not."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from nomoat.base.errors import InputError
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.checks.gguf import gguf_facts, read_gguf_header
from nomoat.share.checks.pictures import picture_facts
from nomoat.share.checks.pipelines import INDEX_NAME, pipeline_facts
from nomoat.share.checks.safetensors import read_header
from nomoat.share.checks.signatures import HEAD_BYTES, kind_of, refuse_archive, refuse_harmful
from nomoat.share.checks.template_trial import try_template
from nomoat.share.checks.weights import safetensors_facts
from nomoat.share.errors import RefusedError

__all__ = ["inspect"]

_PICTURES = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
_MOST_JSON_BYTES, _MOST_JSON_VALUES, _MOST_CARD_BYTES = 64 << 20, 4_000_000, 4 << 20
_TEMPLATE_ENDINGS = {"jinja", "jinja2", "j2"}
_CONFIGS_WITH_TEMPLATES = {"tokenizer_config.json", "chat_template.json", "processor_config.json"}
_TEMPLATE_KEY = "tokenizer.chat_template"


def inspect(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """Facts as `Inspection` has them. Raises `RefusedError`, naming file, place and remedy.

    A file that says by its name what it is must be that; one that can run when it is opened is refused whatever its
    name. Other content is taken as it is: the hub never opens it, and hands it out as a download only.
    """
    head = reader.read(HEAD_BYTES)
    reader.seek(0)
    ending, kind = path.lower().rpartition(".")[2], kind_of(head)
    if ending == "safetensors":
        return _safetensors(path, reader, size_bytes)
    refuse_harmful(path, reader, size_bytes)
    reader.seek(0)
    if kind == "gguf" or ending == "gguf":
        return _gguf(path, reader, size_bytes)
    if kind in _PICTURES.values() or ending in _PICTURES:
        return picture_facts(path, kind or _PICTURES[ending], reader, size_bytes)
    if ending == "json":
        return _json(path, reader, size_bytes)
    if ending in _TEMPLATE_ENDINGS:
        return _template(path, reader, size_bytes)
    if path.rpartition("/")[2].lower() == "readme.md":
        return _card(path, reader, size_bytes)
    return {"format": kind or ("text" if _is_text(head) else "other")}


def _safetensors(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """By its header first: the first bytes of a sound file are a number, which can look like anything."""
    try:
        facts = safetensors_facts(path, read_header(path, reader, size_bytes))
    except RefusedError:
        refuse_harmful(path, reader, size_bytes)  # says better what it is
        raise
    refuse_archive(path, reader, size_bytes)
    return facts


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
    content = reader.read(size_bytes)
    # Before it is parsed, which takes fifty times the room of an empty list.
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > _MOST_JSON_VALUES:
        raise RefusedError(
            f"{path}: it holds more than {_MOST_JSON_VALUES:,} values", "send it as JSON lines"
        )
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise RefusedError(f"{path}: it is nested too deeply", "flatten it") from error
    except ValueError as error:
        raise RefusedError(
            f"{path}: it is no JSON ({str(error)[:200]})", "name it otherwise, or mend it"
        ) from error
    if path == INDEX_NAME:
        return {"format": "json"} | pipeline_facts(value)
    source = _template_in(value) if path.rpartition("/")[2].lower() in _CONFIGS_WITH_TEMPLATES else ""
    return {"format": "json"} | ({"chat_template": try_template(source)} if source else {})


def _template_in(config: Any) -> str:
    """The chat template of a tokenizer's configuration; of several, which have names, the default or the first."""
    found = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(found, list):
        named = [each for each in found if isinstance(each, dict) and isinstance(each.get("template"), str)]
        named.sort(key=lambda each: each.get("name") != "default")
        found = named[0]["template"] if named else ""
    return found if isinstance(found, str) else ""


def _template(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    if size_bytes > _MOST_CARD_BYTES:
        raise RefusedError(f"{path}: {size_bytes:,} bytes are too many for a template", "shorten it")
    try:
        source = reader.read(size_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{path}: byte {error.start:,}: it is no UTF-8 text", "save it as UTF-8"
        ) from error
    return {"format": "text", "chat_template": try_template(source)}


def _card(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    if size_bytes > _MOST_CARD_BYTES:
        raise RefusedError(
            f"{path}: {size_bytes:,} bytes are too many for a card", "move the rest to another file"
        )
    try:
        split_front_matter(reader.read(size_bytes).decode("utf-8"))
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
