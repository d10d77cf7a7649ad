"""A README with front matter (model card, data set card): YAML between two lines `---`, then prose."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

import yaml

from nomoat.share.errors import RefusedError

__all__ = ["Card", "read_card"]

_MOST_BYTES = 256 << 10
_DEEPEST = 12


@dataclass(frozen=True)
class Card:
    """The front matter as plain JSON values, and the prose below it."""

    data: dict[str, Any] = field(default_factory=dict)
    prose: str = ""


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases: with them a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def read_card(text: str) -> Card:
    """Take a README apart. Raises `RefusedError` where its front matter is no YAML mapping."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return Card({}, text)
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return Card({}, text)
    front = "\n".join(lines[1:end])
    if len(front.encode()) > _MOST_BYTES:
        raise RefusedError(
            "README.md: the front matter is too long", f"keep it below {_MOST_BYTES >> 10} KiB"
        )
    try:
        data = _plain(yaml.load(front, _Loader) or {}, 0)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(f"README.md: the front matter is no YAML: {error}", "correct it") from error
    if not isinstance(data, dict):
        raise RefusedError("README.md: the front matter is no mapping", "write 'name: value' lines")
    return Card(data, "\n".join(lines[end + 1 :]).lstrip("\n"))


def _plain(value: Any, depth: int) -> Any:
    """As JSON has it; a date becomes text."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, (datetime.date, datetime.datetime, bytes)):
        return str(value)
    return value
