"""Files from a browser: sent in parts that survive an interruption, checked by their sha256, then committed."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.commits import CommitRequest, LargeFile, SmallFile, apply_commit
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.lfs import receive
from nomoat.server.hub.pages.render import Visit, api, page, render, repo_url
from nomoat.server.hub.tickets import Ticket
from nomoat.server.hub.wire import read_json
from nomoat.server.wire import json_response
from nomoat.share.errors import UnauthorizedError
from nomoat.share.names import MAIN, RepoKind, RepoName, check_digest, check_path
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES"]

_PART_BYTES = 8 << 20
_MOST_FILES = 1_000


class _File(msgspec.Struct):
    """A file as the browser announces it."""

    path: str
    sha256: str
    size: int


class _Where(msgspec.Struct):
    """A repository, which need not be there yet."""

    repo: str
    kind: RepoKind = "model"


class _Begin(_Where, kw_only=True):
    file: _File


class _Commit(_Where, kw_only=True):
    files: list[_File]
    title: str = ""
    message: str = ""
    private: bool = False


@dataclass(frozen=True)
class _Place:
    """Where files go: the repository if it is there, and who owns it."""

    name: RepoName
    repo: Repo | None
    owner_id: int


@page
async def _show(request: Request, visit: Visit) -> Response:
    if not visit.who.known:
        raise UnauthorizedError("only who is logged in can send files", "log in with a token that may write")
    given = request.query_params
    accounts = visit.hub.registry.accounts
    orgs = await visit.hub.call(accounts.organisations, visit.who.name)
    owners = [visit.who.name, *(account.name for account, role in orgs if role in {"write", "admin"})]
    return render(
        request, visit, "upload.html", owners=owners, repo=given.get("repo", "")[:200], kind=given.get("kind", "model"),
        may_write=visit.who.scope in {"write", "admin"},
    )  # fmt: skip


@api
async def _begin(request: Request, visit: Visit) -> Response:
    asked = _read(await read_json(request), _Begin)
    return json_response(await visit.hub.call(_admit, visit, asked))


def _admit(visit: Visit, asked: _Begin) -> dict[str, Any]:
    """What is still to be sent of a file, and the ticket to send it with."""
    hub, who = visit.hub, visit.who
    place = _place(hub, who, asked)
    check_path(asked.file.path)
    digest, size = check_digest(f"sha256:{asked.file.sha256}"), asked.file.size
    if size < 0:
        raise InputError("a file has no negative size")
    held = hub.registry.claims.held(who, digest)
    if held is not None and held.size_bytes == size:
        return {"done": True}
    coming = hub.coming.bytes_of(place.owner_id)
    hub.registry.claims.require_room(who.user_id, place.owner_id, size, coming, digest=digest)
    expires = int(time.time()) + hub.config.limits.ticket_seconds
    repo_id = place.repo.id if place.repo else 0
    ticket = Ticket(who.user_id, repo_id, place.owner_id, digest, size, expires)
    have = hub.parts.numbers(_upload_name(ticket))
    return {"done": False, "ticket": hub.tickets.sign(ticket), "have": have, "part_bytes": _PART_BYTES}


@api
async def _part(request: Request, visit: Visit) -> Response:
    ticket = await visit.hub.call(_ticket, request, visit)
    number, count = request.path_params["number"], _count(ticket)
    if not 1 <= number <= count:
        raise HttpProblem("bad_input", f"there is no part {number}")
    size = min(_PART_BYTES, ticket.size_bytes - (number - 1) * _PART_BYTES)
    with visit.hub.coming.counted(ticket.owner_id, size), contextlib.ExitStack() as opened:
        handle = await visit.hub.read(
            opened.enter_context, visit.hub.parts.writing(_upload_name(ticket), number)
        )
        received = await receive(request, size, handle.write)
        if received != size:
            raise HttpProblem(
                "bad_input", f"{received:,} bytes arrived where a part has {size:,}", "send it again"
            )
    return json_response({"received": received})


@api
async def _finish(request: Request, visit: Visit) -> Response:
    ticket = await visit.hub.call(_ticket, request, visit)
    await visit.hub.read(_assemble, visit.hub, ticket)
    return json_response({"done": True})


def _assemble(hub: Hub, ticket: Ticket) -> None:
    upload = _upload_name(ticket)
    with hub.registry.blobs.incoming() as (incoming, finish):
        for block in hub.parts.read(upload, _count(ticket)):
            incoming.write(block)
        try:
            info = finish(ticket.digest, ticket.size_bytes)
        finally:  # what does not fit its digest would not fit it the next time either
            hub.parts.drop(upload)
    hub.registry.claims.note_sent(ticket.user_id, info)


@api
async def _commit(request: Request, visit: Visit) -> Response:
    asked = _read(await read_json(request), _Commit)
    repo = await visit.hub.call(_apply, visit, asked)
    return json_response({"url": repo_url(repo)})


def _apply(visit: Visit, asked: _Commit) -> Repo:
    hub, who = visit.hub, visit.who
    if not 0 < len(asked.files) <= _MOST_FILES:
        raise InputError("there is no file to add" if not asked.files else "too many files at once")
    place = _place(hub, who, asked)
    files = [_operation(hub, who, each) for each in asked.files]
    made = place.repo is None
    repo = place.repo or hub.registry.repos.create(who, place.name, private=asked.private)
    title = asked.title.strip()[:200] or f"Add {len(files)} file{'s' if len(files) > 1 else ''}"
    try:
        apply_commit(hub, who, repo, MAIN, CommitRequest(title, asked.message[:4000], None, [*files]))
    except Exception:
        if made:  # refused: a place without content would only take the name
            hub.registry.repos.delete(who, repo.name)
        raise
    return repo


def _operation(hub: Hub, who: Identity, file: _File) -> SmallFile | LargeFile:
    """Short texts are kept as git keeps them, so that other tools can show how they changed."""
    path, digest = check_path(file.path), check_digest(f"sha256:{file.sha256}")
    if file.size > hub.config.limits.regular_bytes or hub.registry.claims.held(who, digest) is None:
        return LargeFile(path, digest, file.size)
    with hub.registry.blobs.open(digest) as source:
        content = source.read()
    try:
        is_text = b"\0" not in content and content.decode() is not None
    except UnicodeDecodeError:
        is_text = False
    return SmallFile(path, content) if is_text else LargeFile(path, digest, file.size)


def _place(hub: Hub, who: Identity, asked: _Where) -> _Place:
    """Raises `ForbiddenError` where `who` may not write there."""
    name = RepoName.parse(asked.kind, asked.repo)
    try:
        repo = hub.registry.repos.get_for_writing(who, name)
        return _Place(repo.name, repo, repo.owner_id)
    except NotFoundError:
        owner = hub.registry.accounts.get(name.owner)
        who.require_write(owner.id, owner.name)
        return _Place(name, None, owner.id)


def _ticket(request: Request, visit: Visit) -> Ticket:
    ticket = visit.hub.tickets.read(request.path_params["ticket"])
    if ticket.user_id != visit.who.user_id:
        raise HttpProblem("forbidden", "this upload was begun by somebody else")
    return ticket


def _count(ticket: Ticket) -> int:
    return max(1, math.ceil(ticket.size_bytes / _PART_BYTES))


def _upload_name(ticket: Ticket) -> str:
    # Not the name that large uploads of other clients have: their parts are of another size.
    return f"browser-{ticket.user_id}-{ticket.digest.removeprefix('sha256:')}"


def _read(content: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"the request is not as it should be: {error}", "reload the page") from error


ROUTES = (
    Route("/upload", _show, methods=["GET"]),
    Route("/upload/begin", _begin, methods=["POST"]),
    Route("/upload/commit", _commit, methods=["POST"]),
    Route("/upload/{ticket}/finish", _finish, methods=["POST"]),
    Route("/upload/{ticket}/{number:int}", _part, methods=["PUT"]),
)
