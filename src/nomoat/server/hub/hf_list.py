"""Lists of repositories: search, filters, sorting and pages as Hugging Face's clients ask for them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.hf_json import repo_json, sibling_json
from nomoat.server.hub.hf_repos import kind_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import flag, page_response
from nomoat.share.names import RepoKind
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.search.search import SearchQuery, Sort

__all__ = ["ROUTES"]

_SORTS: dict[str, Sort] = {
    "downloads": "downloads", "likes": "likes", "lastModified": "updated", "last_modified": "updated",
    "createdAt": "newest", "created_at": "newest", "trendingScore": "trending", "trending_score": "trending",
}  # fmt: skip
_PAGE, _PAGE_WITH_FILES = 200, 50
_SHORT = ("private", "downloads", "likes", "trendingScore", "tags", "pipeline_tag", "library_name", "createdAt",
          "lastModified", "author", "sha", "gated", "safetensors", "gguf", "description")  # fmt: skip


async def _list(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    only = [*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")]
    with_files = flag(request.query_params.get("full")) or "siblings" in only
    fields = only or (
        *_SHORT,
        *(["cardData"] if with_files or flag(request.query_params.get("cardData")) else []),
    )
    query = _query(request, kind_of(request), _PAGE_WITH_FILES if with_files else _PAGE)

    def listed() -> tuple[list[dict[str, Any]], str]:
        page = hub.registry.search.find(who, query)
        return [_row(hub, who, repo, fields, with_files) for repo in page.repos], page.cursor

    content, cursor = await hub.call(listed)
    return page_response(request, content, [("cursor", cursor)] if cursor else None)


def _row(hub: Hub, who: Identity, repo: Repo, fields: Any, with_files: bool) -> dict[str, Any]:
    content = repo_json(repo, only=fields)
    if with_files:
        history = hub.registry.history
        files = history.files(history.resolve(repo, repo.head)) if repo.head else []
        content["siblings"] = [sibling_json(each, with_blob=False) for each in files if each.is_file]
    return content


def _query(request: Request, kind: RepoKind, most: int) -> SearchQuery:
    """What the parameters ask for. Tags of some kinds have a column of their own."""
    query = request.query_params
    limit = query.get("limit", "")
    named = {"license": "", "library": query.get("library", ""), "pipeline_tag": query.get("pipeline_tag", ""),
             "base_model": "", "tags": []}  # fmt: skip
    tags: list[str] = []
    for value in (
        each for text in [*query.getlist("filter"), *query.getlist("tags")] for each in text.split(",")
    ):
        name, sign, rest = value.partition(":")
        if sign and name in {"license", "base_model"} and rest.count(":") == 0:
            named[name] = rest
        elif value:
            tags.append(value)
    return SearchQuery(
        kind=kind, text=query.get("search", ""), owner=query.get("author", ""), licence=str(named["license"]),
        pipeline_tag=str(named["pipeline_tag"]), library=str(named["library"]), base_model=str(named["base_model"]),
        tags=tuple(tags), sort=_SORTS.get(query.get("sort", ""), "trending"),
        limit=max(1, min(int(limit), most)) if limit.isdigit() and len(limit) < 8 else most,
        cursor=query.get("cursor", ""),
    )  # fmt: skip


ROUTES: tuple[BaseRoute, ...] = (Route("/api/models", _list), Route("/api/datasets", _list))
