"""Large files on their way in: Git LFS's batch request, and the addresses to which clients send the bytes.

A file is "already there" only for somebody who sent it or may read it (`Claims`); anybody else sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import NomoatError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.errors import hub_status_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.tickets import Ticket
from nomoat.server.hub.wire import base_url, body_parts, read_json
from nomoat.server.wire import json_response
from nomoat.share.blobs.patch import PATCH, Patching, most_patch_bytes
from nomoat.share.blobs.store import BlobInfo
from nomoat.share.names import check_digest, is_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES", "receive"]

_MOST_OBJECTS = 1000
_WRITE_BYTES = 1 << 20
_JSON = "application/vnd.git-lfs+json"


async def _batch(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    body = await read_json(request)
    objects, transfers = body.get("objects"), body.get("transfers") or ["basic"]
    if body.get("operation") != "upload":
        raise HttpProblem("not_implemented", "only the operation 'upload' is answered here",
                          "download files by /OWNER/NAME/resolve/REVISION/PATH")  # fmt: skip
    if not isinstance(objects, list) or len(objects) > _MOST_OBJECTS:
        raise HttpProblem("bad_input", f"objects: give a list of at most {_MOST_OBJECTS}")
    address = base_url(request)

    def answered() -> list[dict[str, Any]]:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request).removesuffix(".git"))
        return [_object(hub, who, repo, each, address, transfers) for each in objects]

    content = await hub.call(answered)
    chosen = "multipart" if any("chunk_size" in _header(each) for each in content) else "basic"
    response = json_response({"transfer": chosen, "objects": content, "hash_algo": "sha256"})
    response.headers["Content-Type"] = _JSON
    return response


def _header(each: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = each.get("actions", {}).get("upload", {}).get("header", {})
    return found


def _object(
    hub: Hub, who: Identity, repo: Repo, wanted: Any, address: str, transfers: list[str]
) -> dict[str, Any]:
    """What the client shall do with one file: nothing, send it, or give up."""
    oid, size = (wanted.get("oid"), wanted.get("size")) if isinstance(wanted, dict) else (None, None)
    if not is_digest(f"sha256:{oid}") or not isinstance(size, int) or size < 0:
        raise HttpProblem("bad_input", "an object has an 'oid' of 64 hex digits and a 'size'")
    content = {"oid": oid, "size": size}
    digest = f"sha256:{oid}"
    held = hub.registry.claims.held(who, digest)
    if held is not None and held.size_bytes == size:
        return content
    try:
        coming = hub.coming.bytes_of(repo.owner_id)
        hub.registry.claims.require_room(who.user_id, repo.owner_id, size, coming, digest=digest)
    except NomoatError as error:
        return content | {"error": {"code": hub_status_of(error), "message": error.message}}
    expires = int(time.time()) + hub.config.limits.ticket_seconds
    ticket = hub.tickets.sign(Ticket(who.user_id, repo.id, repo.owner_id, digest, size, expires))
    return content | {
        "authenticated": True,
        "actions": _actions(hub, f"{address}/api/uploads/{ticket}", size, transfers),
    }


def _actions(hub: Hub, href: str, size: int, transfers: list[str]) -> dict[str, Any]:
    common: dict[str, Any] = {"verify": {"href": f"{href}/verify"}}
    if PATCH in transfers:
        common[PATCH] = {"href": f"{href}/patch"}
    limits = hub.config.limits
    if "multipart" not in transfers or size <= limits.multipart_above_bytes:
        return {"upload": {"href": href}, **common}
    count = math.ceil(size / limits.part_bytes)
    header = {"chunk_size": str(limits.part_bytes)}
    header |= {str(number): f"{href}/{number}" for number in range(1, count + 1)}
    return {"upload": {"href": f"{href}/complete", "header": header}, **common}


async def _put(request: Request) -> Response:
    """The whole file."""
    hub, ticket = await _admitted(request)
    with hub.coming.counted(ticket.owner_id, ticket.size_bytes):
        await hub.call(_require_room, hub, ticket)
        async with contextlib.AsyncExitStack() as stack:
            opened = stack.enter_context(contextlib.ExitStack())
            incoming, finish = await hub.read(opened.enter_context, hub.registry.blobs.incoming())
            await receive(request, ticket.size_bytes, incoming.write)
            info = await hub.read(finish, ticket.digest, ticket.size_bytes)
            await hub.call(hub.registry.claims.note_sent, ticket.user_id, info)
    return Response(status_code=200, headers={"ETag": f'"{info.digest.removeprefix("sha256:")}"'})


async def _put_patch(request: Request) -> Response:
    """The file as a patch of one that its sender may use."""
    hub, ticket = await _admitted(request)
    base = check_digest(request.query_params.get("base", ""))
    with hub.coming.counted(ticket.owner_id, ticket.size_bytes):
        await hub.call(_require_room, hub, ticket)
        with contextlib.ExitStack() as opened:
            older = await hub.read(opened.enter_context, _opened_to_sender(hub, ticket, base))
            incoming, finish = await hub.read(opened.enter_context, hub.registry.blobs.incoming())
            patching = Patching(older, incoming.write, ticket.size_bytes)
            await receive(request, most_patch_bytes(ticket.size_bytes), patching.feed)
            patching.finish()
            info = await hub.read(finish, ticket.digest, ticket.size_bytes)
            await hub.call(hub.registry.claims.note_sent, ticket.user_id, info)
    return Response(status_code=200, headers={"ETag": f'"{info.digest.removeprefix("sha256:")}"'})


async def _put_part(request: Request) -> Response:
    """One part of a file."""
    hub, ticket = await _admitted(request)
    number = int(request.path_params["number"])
    size = _part_size(hub, ticket, number)
    with hub.coming.counted(ticket.owner_id, ticket.size_bytes):
        await hub.call(_require_room, hub, ticket)
        with contextlib.ExitStack() as opened:
            handle = await hub.read(opened.enter_context, hub.parts.writing(_upload_name(ticket), number))
            received = await receive(request, size, handle.write)
            if received != size:
                raise HttpProblem(
                    "bad_input", f"{received:,} bytes arrived where a part has {size:,}", "send it again"
                )
    return Response(status_code=200, headers={"ETag": f'"{number}-{size}"'})


async def _complete(request: Request) -> Response:
    """All parts are there: make them one file and check it."""
    hub, ticket = await _admitted(request)
    await hub.read(_assemble, hub, ticket)
    return json_response({"oid": ticket.digest.removeprefix("sha256:"), "size": ticket.size_bytes})


def _assemble(hub: Hub, ticket: Ticket) -> None:
    upload, count = _upload_name(ticket), math.ceil(ticket.size_bytes / hub.config.limits.part_bytes)
    with hub.registry.blobs.incoming() as (incoming, finish):
        for block in hub.parts.read(upload, count):
            incoming.write(block)
        info = finish(ticket.digest, ticket.size_bytes)
    hub.registry.claims.note_sent(ticket.user_id, info)
    hub.parts.drop(upload)


async def _verify(request: Request) -> Response:
    hub, ticket = await _admitted(request)

    info = await hub.call(_held_by_sender, hub, ticket, ticket.digest)
    if info is None or info.size_bytes != ticket.size_bytes:
        raise HttpProblem("not_found", "the file has not arrived", "send it again")
    return json_response({"oid": ticket.digest.removeprefix("sha256:"), "size": info.size_bytes})


def _held_by_sender(hub: Hub, ticket: Ticket, digest: str) -> BlobInfo | None:
    """Only what this user sent or may read: others must not learn what the hub holds."""
    accounts = hub.registry.accounts
    who = accounts.identity(accounts.by_id(ticket.user_id).name, "write")
    return hub.registry.claims.held(who, check_digest(digest))


@contextlib.contextmanager
def _opened_to_sender(hub: Hub, ticket: Ticket, digest: str) -> Iterator[BinaryIO]:
    hub.registry.takedowns.require_served(digest)
    if _held_by_sender(hub, ticket, digest) is None:
        raise HttpProblem(
            "not_found", f"{digest} is nothing that you sent or may read", "send the whole file"
        )
    with hub.registry.blobs.open(digest) as older:
        yield older


async def _admitted(request: Request) -> tuple[Hub, Ticket]:
    """The ticket in the address. Its user must still be welcome."""
    hub = hub_of(request)

    def read() -> Ticket:
        ticket = hub.tickets.read(request.path_params["ticket"])
        if hub.registry.accounts.by_id(ticket.user_id).suspended:
            raise HttpProblem("forbidden", "this account is suspended")
        return ticket

    return hub, await hub.call(read)


def _require_room(hub: Hub, ticket: Ticket) -> None:
    others = hub.coming.bytes_of(ticket.owner_id) - ticket.size_bytes
    hub.registry.claims.require_room(
        ticket.user_id, ticket.owner_id, ticket.size_bytes, others, digest=ticket.digest
    )


def _part_size(hub: Hub, ticket: Ticket, number: int) -> int:
    part_bytes = hub.config.limits.part_bytes
    if not 1 <= number <= math.ceil(ticket.size_bytes / part_bytes):
        raise HttpProblem("bad_input", f"there is no part {number}")
    return min(part_bytes, ticket.size_bytes - (number - 1) * part_bytes)


def _upload_name(ticket: Ticket) -> str:
    return f"{ticket.user_id}-{ticket.digest.removeprefix('sha256:')}"


async def receive(request: Request, most_bytes: int, write: Callable[[Any], Any]) -> int:
    """Write the body as it comes, in a thread, while the next megabytes arrive; returns how many bytes it had.

    Raises `HttpProblem` as soon as there are more than `most_bytes`.
    """
    hub = hub_of(request)
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most_bytes:
        raise _too_many(most_bytes)
    size, buffer = 0, bytearray()
    writing: asyncio.Task[Any] | None = None
    try:
        async for part in body_parts(request, hub.config.limits):
            size += len(part)
            if size > most_bytes:
                raise _too_many(most_bytes)
            buffer += part
            if len(buffer) >= _WRITE_BYTES:
                if writing is not None:
                    await writing
                writing, buffer = asyncio.create_task(hub.read(write, buffer)), bytearray()
    finally:
        if writing is not None:
            await writing
    if buffer:
        await hub.read(write, buffer)
    return size


def _too_many(most_bytes: int) -> HttpProblem:
    return HttpProblem("too_large", f"more bytes came than the {most_bytes:,} that were announced")


ROUTES: tuple[BaseRoute, ...] = (
    Route("/datasets/{owner}/{name}/info/lfs/objects/batch", _batch, methods=["POST"]),
    Route("/{owner}/{name}/info/lfs/objects/batch", _batch, methods=["POST"]),
    Route("/api/uploads/{ticket}/complete", _complete, methods=["POST"]),
    Route("/api/uploads/{ticket}/verify", _verify, methods=["POST"]),
    Route("/api/uploads/{ticket}/patch", _put_patch, methods=["PUT"]),
    Route("/api/uploads/{ticket}/{number:int}", _put_part, methods=["PUT"]),
    Route("/api/uploads/{ticket}", _put, methods=["PUT"]),
)
