"""The gallery: full-text search, filters, sorting and facets over many thousand repositories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nomoat.share.names import RepoKind
from nomoat.share.registry.repos import Repo

__all__ = ["FACETS", "Facet", "Page", "SearchQuery", "Sort"]

Sort = Literal["trending", "downloads", "likes", "newest", "updated", "size", "relevance"]
FACETS = ("artefact", "architecture", "quantisation", "licence", "pipeline_tag", "library", "rating")


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
    tags: tuple[str, ...] = ()
    ratings: tuple[str, ...] = ()
    """Any of these; "" stands for unrated."""
    sort: Sort = "trending"
    limit: int = 30
    cursor: str = ""
    """`Page.cursor` of the page before."""


@dataclass(frozen=True)
class Facet:
    """A value that a filter can take, and how many repositories have it."""

    value: str
    count: int


@dataclass(frozen=True)
class Page:
    """Some of what was found. `total` is exact unless `total_is_bound`: then there are more than that."""

    repos: tuple[Repo, ...]
    total: int
    total_is_bound: bool
    cursor: str
    """For the next page; empty on the last one."""
