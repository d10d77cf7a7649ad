"""A README with front matter: a model's or data set's card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nomoat.base.errors import InputError
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.errors import RefusedError

__all__ = ["Card", "read_card"]


@dataclass(frozen=True)
class Card:
    """The front matter as plain JSON values, and the prose below it."""

    data: dict[str, Any] = field(default_factory=dict)
    prose: str = ""


def read_card(text: str) -> Card:
    """Take a README apart. Raises `RefusedError` where its front matter is no plain YAML mapping."""
    try:
        data, prose = split_front_matter(text)
    except InputError as error:
        raise RefusedError(error.message, error.hint) from error
    return Card(data, prose)
