"""The YAML block at the head of a README.md, as Hugging Face has it: read from strangers, and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import yaml

from nomoat.base.errors import InputError

__all__ = ["split_front_matter", "with_front_matter"]

_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_MOST_CHARACTERS = 256 << 10
_MOST_DEPTH = 20
_HINT = "the block between the two lines '---' at the head of README.md must be plain YAML: names and values"


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """`(fields, body)`; no fields where there is no block.

    The fields hold nothing but JSON's types. Raises `InputError` for what is no mapping, refers to itself (aliases
    grow without a limit), is nested too deeply or too long.
    """
    match = _BLOCK.match(text)
    if match is None:
        return {}, text
    if len(match[1]) > _MOST_CHARACTERS:
        raise InputError(f"the card's front matter has {len(match[1]):,} characters", "shorten it")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(match[1], Loader=yaml.SafeLoader)):
            raise InputError("the card's front matter holds a YAML alias", "write the value out")
        fields = yaml.safe_load(match[1])
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        where = f"line {place.line + 2}: " if place else ""
        problem = getattr(error, "problem", None) or error
        raise InputError(f"the card's front matter: {where}{problem}", _HINT) from error
    if fields is None:
        return {}, text[match.end() :]
    if not isinstance(fields, dict):
        raise InputError("the card's front matter is no list of names and values", _HINT)
    return {str(name): _plain(value) for name, value in fields.items()}, text[match.end() :]


def with_front_matter(fields: Mapping[str, Any], body: str) -> str:
    """A README.md of these fields, in their order, and this body."""
    block = yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{block}---\n\n{body.lstrip()}" if fields else body


def _plain(value: Any, depth: int = 0) -> Any:
    """The value in JSON's types: dates become text, numbers that JSON has no word for become None."""
    if depth > _MOST_DEPTH:
        raise InputError("the card's front matter is nested too deeply", "flatten it")
    if isinstance(value, dict):
        return {str(name): _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
