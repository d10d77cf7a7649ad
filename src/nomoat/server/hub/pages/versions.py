"""Versions of a repository, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.pages.differences import Change, changes_between
from nomoat.server.hub.pages.opened import kind_of, open_repo, repo_routes, revision_and_path
from nomoat.server.hub.pages.render import Visit, page, render
from nomoat.share.names import MAIN
from nomoat.share.registry.history import Commit
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES"]

_PER_PAGE = 40
_LONGEST_REVISION = 200


@dataclass(frozen=True)
class _Pair:
    before: Commit | None
    after: Commit
    changes: Sequence[Change]


@page
async def _commits(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    history, given = visit.hub.registry.history, request.query_params
    skip = int(given["skip"]) if given.get("skip", "").isdigit() and len(given["skip"]) < 7 else 0
    revision = (given.get("revision") or _revision_of_path(request))[:_LONGEST_REVISION]
    found: list[Commit] = []
    if opened.commit:
        await visit.hub.call(visit.hub.commit, opened.repo, revision)
        found = await visit.hub.call(history.log, opened.repo, revision, _PER_PAGE + 1, skip)
    refs = await visit.hub.call(history.refs, opened.repo)
    valid = {each.commit for each in opened.signatures if each.valid}
    return render(
        request, visit, "versions.html", opened=opened, repo=opened.repo, tab="versions", commits=found[:_PER_PAGE],
        refs=refs, valid=valid, revision=revision, next_skip=skip + _PER_PAGE if len(found) > _PER_PAGE else 0,
    )  # fmt: skip


def _revision_of_path(request: Request) -> str:
    """`REVISION` of `/commits/REVISION`, which is how Hugging Face's pages are linked to."""
    if "rest" not in request.path_params:
        return MAIN
    revision, path = revision_and_path(request)
    if path:
        raise NotFoundError("versions of a single file are not listed", "leave the path out of the address")
    return revision


@page
async def _commit(request: Request, visit: Visit) -> Response:
    return await _show_pair(request, visit, "", request.path_params["oid"])


@page
async def _diff(request: Request, visit: Visit) -> Response:
    given = request.query_params
    before, after = (given.get(name, "").strip()[:_LONGEST_REVISION] for name in ("from", "to"))
    return await _show_pair(request, visit, before, after or MAIN)


async def _show_pair(request: Request, visit: Visit, before: str, after: str) -> Response:
    opened = await open_repo(request, visit)
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    if opened.repo.gated:
        await visit.hub.call(visit.hub.repo_to_download, visit.who, kind_of(request), name)
    pair = await visit.hub.call(_pair, visit, opened.repo, before, after)
    return render(
        request, visit, "difference.html", opened=opened, repo=opened.repo, tab="versions", pair=pair,
        changes=pair.changes, added=_bytes(pair.changes, "added"), removed=_bytes(pair.changes, "removed"),
    )  # fmt: skip


def _pair(visit: Visit, repo: Repo, before: str, after: str) -> _Pair:
    hub = visit.hub
    new = hub.commit(repo, after)
    old = hub.commit(repo, before or new.parent) if before or new.parent else None
    files = hub.registry.history.files
    return _Pair(old, new, changes_between(hub, files(old) if old else [], files(new)))


def _bytes(changes: Sequence[Change], kind: str) -> int:
    entries = (each.after if kind == "added" else each.before for each in changes if each.kind == kind)
    return sum(entry.size_bytes for entry in entries if entry)


ROUTES = (
    *repo_routes("/commits", _commits),
    *repo_routes("/commits/{rest:path}", _commits),
    *repo_routes("/commit/{oid}", _commit),
    *repo_routes("/diff", _diff),
)
