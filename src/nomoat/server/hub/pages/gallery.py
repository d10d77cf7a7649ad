"""The gallery: what there is, searched, filtered, sorted; each with a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.pictures import LARGE, SMALL, picture_url
from nomoat.server.hub.pages.render import Visit, page, query_with, render
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.search.index import SIZES
from nomoat.share.registry.search.search import Facet, SearchQuery, Sort
from nomoat.share.registry.search.search import Page as Found

__all__ = ["ROUTES", "Item", "items_of"]

_PER_PAGE = 24
_FILTERS = {"artefact": "Kind", "architecture": "Architecture", "quantisation": "Quantisation", "licence": "Licence",
            "pipeline_tag": "Task", "library": "Library", "rating": "Content"}  # fmt: skip
_SORTS = (("trending", "Trending"), ("downloads", "Most downloads"), ("likes", "Most likes"), ("newest", "Newest"),
          ("updated", "Last change"), ("size", "Largest"))  # fmt: skip
_SIZE_WORDS = {
    "tiny": "below 100 MB",
    "small": "100 MB to 1 GB",
    "medium": "1 to 10 GB",
    "large": "above 10 GB",
}
_MOST_TAGS = 12
_KINDS = {"gguf": "GGUF models", "adapter": "Adapters", "image-lora": "Image LoRAs", "pipeline": "Image pipelines",
          "safetensors": "Safetensors models"}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A card of the gallery. Both addresses are of its picture, and empty where it has none."""

    repo: Repo
    small: str
    large: str


@dataclass(frozen=True)
class _Option:
    words: str
    url: str
    count: int | None
    chosen: bool


@dataclass(frozen=True)
class _Group:
    title: str
    options: Sequence[_Option]


def items_of(hub: Hub, repos: Sequence[Repo]) -> list[Item]:
    """Each repository with the picture to show."""
    return [_item(hub, repo) for repo in repos]


def _item(hub: Hub, repo: Repo) -> Item:
    digest = _picture(hub, repo)
    if not digest:
        return Item(repo, "", "")
    return Item(repo, picture_url(hub, digest, SMALL), picture_url(hub, digest, LARGE))


@page
async def _gallery(request: Request, visit: Visit) -> Response:
    query = _query(request)
    search = visit.hub.registry.search
    found: Found = await visit.hub.call(search.find, visit.who, query)
    facets = await visit.hub.call(search.facets, visit.who, replace(query, cursor=""))
    items = await visit.hub.call(items_of, visit.hub, found.repos)
    at = _number(request.query_params.get("at"))
    end = at + len(items)
    return render(
        request, visit, "gallery.html", items=items, at=at, sorts=_SORTS, sort=query.sort, noun=query.kind,
        heading="Datasets" if query.kind == "dataset" else "Models", groups=_groups(request, facets, items),
        active=_active(request), count_words=_count_words(found, at, end),
        next_url=query_with(request, cursor=found.cursor, at=str(end)) if found.cursor else "",
    )  # fmt: skip


def _query(request: Request) -> SearchQuery:
    given = request.query_params
    sort = given.get("sort", "")
    text = given.get("q", "").strip()[:200]
    if sort not in get_args(Sort):
        sort = "relevance" if text else "trending"
    named = {name: given[name][:200] for name in _FILTERS if given.get(name) and name != "rating"}
    ratings = (given["rating"],) if given.get("rating") else ()
    fields: dict[str, Any] = {**named, "tags": tuple(given.getlist("tag")[:10]), "ratings": ratings,
                              "owner": given.get("owner", ""), "base_model": given.get("base", "")}  # fmt: skip
    fields["size"] = given["size"] if given.get("size") in SIZES else ""
    kind = "dataset" if request.url.path.startswith("/datasets") else "model"
    cursor = given.get("cursor", "")[:300]
    return SearchQuery(
        kind=cast(Any, kind), text=text, sort=cast(Sort, sort), limit=_PER_PAGE, cursor=cursor, **fields
    )


def _groups(request: Request, facets: dict[str, tuple[Facet, ...]], items: Sequence[Item]) -> list[_Group]:
    groups = []
    for name, title in _FILTERS.items():
        chosen = request.query_params.get(name, "")
        options = [
            _Option(_words(name, facet.value), _toggled(request, name, facet.value, chosen), facet.count,
                    facet.value.lower() == chosen.lower())
            for facet in facets.get(name, ())
        ]  # fmt: skip
        if options:
            groups.append(_Group(title, options))
    if groups:
        groups.insert(1, _sizes(request))
    if tags := _tags(request, items):
        groups.append(tags)
    return groups


def _sizes(request: Request) -> _Group:
    chosen = request.query_params.get("size", "")
    return _Group("Size", [_Option(_SIZE_WORDS[name], _toggled(request, "size", name, chosen), None, name == chosen)
                           for name in SIZES])  # fmt: skip


def _tags(request: Request, items: Sequence[Item]) -> _Group | None:
    """Tags that occur most among what is shown."""
    counted = Counter(tag for item in items for tag in item.repo.tags if ":" not in tag)
    for item in items:  # what has a filter of its own
        for known in (item.repo.artefact, item.repo.library, item.repo.pipeline_tag):
            counted.pop(known, None)
    chosen = request.query_params.getlist("tag")
    options = [
        _Option(f"#{tag}", query_with(request, tag=tag, cursor=None, at=None), None, tag in chosen)
        for tag, _ in counted.most_common(_MOST_TAGS)
    ]
    return _Group("Tags", options) if options else None


def _active(request: Request) -> list[_Option]:
    given = request.query_params
    found = [
        _Option(
            _words(name, given[name]), query_with(request, **{name: None}, cursor=None, at=None), None, True
        )
        for name in (*_FILTERS, "size", "owner", "base", "q")
        if given.get(name)
    ]
    if given.get("tag"):
        words = " ".join(f"#{tag}" for tag in given.getlist("tag"))
        found.append(_Option(words, query_with(request, tag=None, cursor=None, at=None), None, True))
    return found


def _toggled(request: Request, name: str, value: str, chosen: str) -> str:
    new = None if value.lower() == chosen.lower() else value
    return query_with(request, **{name: new}, cursor=None, at=None)


def _words(name: str, value: str) -> str:
    if name in {"artefact", "size"}:
        return (_KINDS | _SIZE_WORDS).get(value, value)
    front = {"owner": "by ", "base": "based on ", "q": "“"}.get(name, "")
    return f"{front}{value}" + ("”" if name == "q" else "")


def _count_words(found: Found, at: int, end: int) -> str:
    if not found.repos:
        return "nothing found"
    total = f"more than {found.total:,}" if found.total_is_bound else f"{found.total:,}"
    return f"{at + 1:,} to {end:,} of {total}"


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0


def _picture(hub: Hub, repo: Repo) -> str:
    if not repo.picture or not repo.head:
        return ""
    try:
        commit = hub.registry.history.resolve(repo, repo.head)
        return hub.registry.history.entry(commit, repo.picture).digest or ""
    except NotFoundError:
        return ""


ROUTES = tuple(Route(path, _gallery) for path in ("/", "/models", "/datasets"))
