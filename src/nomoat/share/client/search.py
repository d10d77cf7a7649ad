"""Searching a hub, and asking it who a token belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nomoat.base.errors import NomoatError
from nomoat.base.plain_text import printable
from nomoat.share.client.connection import Connection

__all__ = ["Found", "SearchKind", "search", "whoami"]

SearchKind = Literal["adapter", "model", "dataset"]
# What Hugging Face's libraries tag: PEFT its adapters, llama.cpp's converters the models that run here.
_FILTERS = {"adapter": "peft", "model": "gguf", "dataset": ""}


@dataclass(frozen=True)
class Found:
    """A repository that matches. `base_model` is what its card says."""

    name: str
    kind: Literal["model", "dataset"]
    downloads: int
    likes: int
    modified: str
    tags: tuple[str, ...]
    base_model: str
    private: bool


def search(connection: Connection, words: str, kind: SearchKind | None, limit: int) -> list[Found]:
    """Repositories that match `words`, most downloaded first."""
    place = "datasets" if kind == "dataset" else "models"
    params: dict[str, Any] = {
        "search": words,
        "limit": limit,
        "sort": "downloads",
        "direction": -1,
        "cardData": "true",
    }
    if kind and _FILTERS[kind]:
        params["filter"] = _FILTERS[kind]
    content, _ = connection.get(f"/api/{place}", params)
    if not isinstance(content, list):
        raise NomoatError(f"{connection.hub.host}: the answer is no list of repositories", "check the host")
    return [_found(entry, "dataset" if kind == "dataset" else "model") for entry in content[:limit]]


def whoami(connection: Connection) -> str:
    """The name of the account that the connection's token belongs to. Raises `UnauthorizedError`."""
    content, _ = connection.get("/api/whoami-v2")
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str) or not name:
        raise NomoatError(
            f"{connection.hub.host}: the hub does not say whose token this is", "check the host"
        )
    return name


def _found(entry: Any, kind: Literal["model", "dataset"]) -> Found:
    content = entry if isinstance(entry, dict) else {}
    card = content.get("cardData")
    base = card.get("base_model", "") if isinstance(card, dict) else ""
    return Found(
        name=_text(content.get("id")), kind=kind, downloads=_count(content.get("downloads")),
        likes=_count(content.get("likes")), modified=_text(content.get("lastModified")),
        tags=tuple(_text(tag) for tag in content.get("tags") or []),
        base_model=_text(base[0] if isinstance(base, list) and base else base),
        private=bool(content.get("private")),
    )  # fmt: skip


def _text(value: Any) -> str:
    """What a hub says is shown at a terminal: nothing in it may steer that."""
    return printable(str(value or ""))[:200]


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
