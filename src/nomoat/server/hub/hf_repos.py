"""Reading repositories: what one is, its files, branches, tags and commits."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import NotFoundError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.errors import ENTRY
from nomoat.server.hub.hf_json import entry_json, log_json, ref_json, repo_json, sibling_json
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import (
    decode_json,
    flag,
    page_response,
    path_segments,
    read_content,
    split_revision,
)
from nomoat.server.wire import json_response
from nomoat.share.names import MAIN, RepoKind
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.history import Commit
from nomoat.share.registry.last_changes import last_changes
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["ROUTES", "kind_of", "name_of"]

_BEFORE_REVISION = 5  # api, models, owner, name, verb
_PAGE, _EXPANDED_PAGE, _LOG_PAGE = 1000, 100, 50
_MOST_PATHS = 2000


def kind_of(request: Request) -> RepoKind:
    """Whether a route is about models or data sets."""
    path = request.url.path
    return (
        "dataset" if path.startswith(("/api/datasets/", "/datasets/")) or path == "/api/datasets" else "model"
    )


def name_of(request: Request) -> str:
    """`owner/name` of a route."""
    return f"{request.path_params['owner']}/{request.path_params['name']}"


async def _info(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    segments = path_segments(request, _BEFORE_REVISION)
    revision = split_revision(segments)[0] if segments else MAIN
    only = [*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")]
    with_blobs = flag(request.query_params.get("blobs"))
    return json_response(
        await hub.call(_info_json, hub, who, kind_of(request), name_of(request), revision, only, with_blobs)
    )


def _info_json(
    hub: Hub, who: Identity, kind: RepoKind, name: str, revision: str, only: list[str], with_blobs: bool
) -> dict[str, Any]:
    repo = hub.repo(who, kind, name)
    content = repo_json(repo, only=only)
    if revision == MAIN and repo.head is None:
        return content | ({} if only else {"siblings": []})
    commit = hub.commit(repo, revision)
    if not only or "sha" in only:
        content["sha"] = commit.oid
    if not only or "siblings" in only:
        files = hub.registry.history.files(commit)
        content["siblings"] = [sibling_json(each, with_blob=with_blobs) for each in files if each.is_file]
    return content


async def _tree(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    revision, folder = split_revision(path_segments(request, _BEFORE_REVISION))
    query = request.query_params
    expand = flag(query.get("expand"))

    def listed() -> tuple[list[dict[str, Any]], str]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        entries = _below(hub, repo, revision, folder, flag(query.get("recursive")))
        limit = min(_count(query.get("limit"), _PAGE), _EXPANDED_PAGE if expand else _PAGE)
        start = _count(query.get("cursor"), 0)
        page = entries[start : start + limit]
        changed = (
            last_changes(hub.registry.history, repo, hub.commit(repo, revision), page)
            if expand and page
            else None
        )
        following = str(start + limit) if start + limit < len(entries) else ""
        damaged = _damaged(hub, page)
        return [entry_json(entry, changed, damaged) for entry in page], following

    content, following = await hub.call(listed)
    return page_response(request, content, [("cursor", following)] if following else None)


def _below(hub: Hub, repo: Repo, revision: str, folder: str, recursive: bool) -> list[Entry]:
    """What is in a folder. A repository that is still empty has nothing in its root."""
    if repo.head is None and revision == MAIN and not folder:
        return []
    with ENTRY.instead():
        return hub.registry.history.files(hub.commit(repo, revision), folder, recursive=recursive)


def _damaged(hub: Hub, entries: list[Entry]) -> set[str]:
    return hub.registry.blobs.damaged_among([entry.digest for entry in entries if entry.digest])


async def _paths_info(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    revision, _ = split_revision(path_segments(request, _BEFORE_REVISION))
    paths, expand = await _asked_paths(request)

    def found() -> list[dict[str, Any]]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        if repo.head is None and revision == MAIN:
            return []
        commit = hub.commit(repo, revision)
        entries = [entry for path in paths if (entry := _entry(hub, commit, path.strip("/"))) is not None]
        changed = last_changes(hub.registry.history, repo, commit, entries) if expand and entries else None
        damaged = _damaged(hub, entries)
        return [entry_json(entry, changed, damaged) for entry in entries]

    return json_response(await hub.call(found))


async def _asked_paths(request: Request) -> tuple[list[str], bool]:
    """Python's client sends a form, JavaScript's sends JSON."""
    content = await read_content(request, hub_of(request).config.limits.json_bytes)
    if request.headers.get("content-type", "").startswith("application/json"):
        body = decode_json(content)
        if not isinstance(body, dict):
            raise HttpProblem("bad_input", "the body must be a JSON object")
        paths, expand = body.get("paths", []), bool(body.get("expand"))
    else:
        form = parse_qs(content.decode("utf-8", "replace"), max_num_fields=_MOST_PATHS + 10)
        paths, expand = form.get("paths", []), flag(form.get("expand", [""])[0])
    if (
        not isinstance(paths, list)
        or len(paths) > _MOST_PATHS
        or not all(isinstance(path, str) for path in paths)
    ):
        raise HttpProblem("bad_input", f"paths: give a list of at most {_MOST_PATHS}")
    return paths, expand


def _entry(hub: Hub, commit: Commit, path: str) -> Entry | None:
    try:
        return hub.registry.history.entry(commit, path)
    except NotFoundError:
        return None


async def _refs(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def listed() -> dict[str, Any]:
        refs = hub.registry.history.refs(hub.repo(who, kind_of(request), name_of(request)))
        branches = [ref_json(ref) for ref in refs if not ref.is_tag]
        tags = [ref_json(ref) for ref in refs if ref.is_tag]
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    return json_response(await hub.call(listed))


async def _commits(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    revision, _ = split_revision(path_segments(request, _BEFORE_REVISION))
    page = _count(request.query_params.get("p"), 0)
    limit = min(_count(request.query_params.get("limit"), _LOG_PAGE), _PAGE) or _LOG_PAGE

    def listed() -> tuple[list[Commit], int]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        total = hub.registry.history.count(repo, hub.commit(repo, revision))
        return hub.registry.history.log(repo, revision, limit, page * limit), total

    found, total = await hub.call(listed)
    following = [("p", str(page + 1))] if (page + 1) * limit < total else None
    response = page_response(request, [log_json(commit) for commit in found], following)
    response.headers["X-Total-Count"] = str(total)
    return response


async def _auth_check(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    look = hub.repo_to_write if request.url.path.endswith("/write") else hub.repo_to_download
    await hub.call(look, who, kind_of(request), name_of(request))
    return json_response({})


async def _unknown(request: Request) -> Response:
    """Names without an owner, as the first models had: none are here."""
    hub, who = hub_of(request), await identity_of(request)
    await hub.call(hub.repo, who, kind_of(request), request.path_params["name"])
    raise AssertionError("a name without an owner was found")


def _count(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = []
    for kind in ("models", "datasets"):
        repo = f"/api/{kind}/{{owner}}/{{name}}"
        found += [
            Route(f"{repo}/revision/{{rest:path}}", _info),
            Route(f"{repo}/tree/{{rest:path}}", _tree),
            Route(f"{repo}/paths-info/{{rest:path}}", _paths_info, methods=["POST"]),
            Route(f"{repo}/refs", _refs),
            Route(f"{repo}/commits/{{rest:path}}", _commits),
            Route(f"{repo}/auth-check", _auth_check),
            Route(f"{repo}/auth-check/write", _auth_check),
            Route(repo, _info),
            Route(f"/api/{kind}/{{name}}", _unknown),
        ]
    return tuple(found)


ROUTES = _routes()
