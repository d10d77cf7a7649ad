"""Settings of a repository: who sees it, who may download, its name, its end."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import InputError
from nomoat.server.hub.pages.opened import kind_of, open_repo, repo_routes
from nomoat.server.hub.pages.render import Form, Visit, form, page, redirect, render, repo_url
from nomoat.share.names import RepoName
from nomoat.share.registry.relations import AccessRequest
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES"]


@page
async def _settings(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    await _writable(request, visit)
    requests = await visit.hub.call(_requests, visit, opened.repo)
    refs = await visit.hub.call(visit.hub.registry.history.refs, opened.repo)
    return render(
        request, visit, "settings.html", opened=opened, repo=opened.repo, tab="settings", requests=requests,
        releases=[ref.name for ref in refs if ref.immutable],
    )  # fmt: skip


@form
async def _change(request: Request, visit: Visit, fields: Form) -> Response:
    repo = await _writable(request, visit)
    values = {"private": fields.get("private") == "yes", "gated": fields.get("gated", "")}
    await visit.hub.call(visit.hub.registry.repos.change, visit.who, repo.name, **values)
    return redirect(repo_url(repo, "settings"))


@form
async def _move(request: Request, visit: Visit, fields: Form) -> Response:
    repo = await _writable(request, visit)
    target = RepoName.parse(repo.name.kind, fields.get("name", "").strip())
    moved = await visit.hub.call(visit.hub.registry.repos.move, visit.who, repo.name, target)
    return redirect(repo_url(moved))


@form
async def _delete(request: Request, visit: Visit, fields: Form) -> Response:
    repo = await _writable(request, visit)
    if fields.get("name", "").strip() != str(repo.name):
        raise InputError("the name that you typed is another one", f"type {repo.name} to delete it")
    delete, also = visit.hub.registry.repos.delete, fields.get("releases") == "yes"
    await visit.hub.call(partial(delete, even_releases=also), visit.who, repo.name)
    return redirect(f"/{repo.name.owner}")


@form
async def _decide(request: Request, visit: Visit, fields: Form) -> Response:
    repo = await _writable(request, visit)
    decide = visit.hub.registry.repos.decide_access
    await visit.hub.call(decide, visit.who, repo.name, fields.get("user", ""), fields.get("let_in") == "yes")
    return redirect(repo_url(repo, "settings"))


async def _writable(request: Request, visit: Visit) -> Repo:
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    return await visit.hub.call(visit.hub.repo_to_write, visit.who, kind_of(request), name)


def _requests(visit: Visit, repo: Repo) -> list[AccessRequest]:
    relations = visit.hub.registry.relations
    return [*relations.access_requests(repo, "pending"), *relations.access_requests(repo, "accepted")]


ROUTES = (
    *repo_routes("/settings", _settings),
    *repo_routes("/settings", _change, "POST"),
    *repo_routes("/settings/move", _move, "POST"),
    *repo_routes("/settings/delete", _delete, "POST"),
    *repo_routes("/settings/access", _decide, "POST"),
)
