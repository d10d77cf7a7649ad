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

_BLOCK = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)(?:[ \t]*\r?\n)?", re.DOTALL | re.MULTILINE
)
_MOST_CHARACTERS = 1 << 20
_MOST_DEPTH = 20
_LONG_NUMBER = re.compile(r"[-+]?[0-9.][0-9A-Fa-f_:.xob]{59}")  # reading it would take quadratic time
_LARGEST = 1 << 63
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
        _check_events(match[1])
        fields = yaml.load(match[1], Loader=_loader())
    except (yaml.YAMLError, RecursionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
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


def _check_events(text: str) -> None:
    """Before anything is built: an alias can grow without a limit, and parsing deep nesting takes quadratic time."""
    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.AliasEvent):
            raise InputError("the card's front matter holds a YAML alias", "write the value out")
        if getattr(event, "tag", None) is not None:
            raise InputError("the card's front matter holds a YAML tag ('!...')", "write the plain value")
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _LONG_NUMBER.match(event.value):
            raise InputError(
                "the card's front matter holds a number of too many digits", "write it in quotes"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise InputError("the card's front matter is nested too deeply", "flatten it")


def _loader() -> Any:
    """The safe loader, in C where the package was built with it: ten times as fast."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _plain(value: Any) -> Any:
    """The value in JSON's types: dates become text, numbers that JSON has no word for become None."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return str(value)  # no database keeps it as a number
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
