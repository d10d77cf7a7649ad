"""What one can ask the gallery for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nomoat.share.names import RepoKind

__all__ = ["SearchQuery", "Sort"]

Sort = Literal["trending", "downloads", "likes", "newest", "updated", "size", "relevance"]


@dataclass(frozen=True)
class SearchQuery:
    """What to find. Empty fields do not restrict; those that are given must all hold, compared without case."""

    kind: RepoKind = "model"
    text: str = ""
    """Words that occur in the name, the summary, the tags or the base's name; each matches beginnings of words."""
    owner: str = ""
    artefact: str = ""
    architecture: str = ""
    quantisation: str = ""
    licence: str = ""
    pipeline_tag: str = ""
    library: str = ""
    base_model: str = ""
    size: str = ""
    """One of `SIZES`."""
    tags: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    """Any of these; "" stands for unrated."""
    sort: Sort = "trending"
    """`relevance` is for texts that few match: where many do, popular ones come first."""
    limit: int = 30
    cursor: str = ""
    """`Page.cursor` of the page before."""
