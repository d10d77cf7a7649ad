"""Xet's requests: a token for them, known chunks, xorbs and shards.

Source: the Xet protocol specification, "CAS API". Downloads go over plain HTTP: no answer names a Xet hash.
"""

from __future__ import annotations

import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import InputError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.auth import bearer_token, hub_of, identity_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.tickets import Ticket
from nomoat.server.hub.wire import base_url, read_buffer, read_content
from nomoat.server.wire import json_response
from nomoat.share.registry.accounts import Identity
from nomoat.share.xet.hashes import from_text
from nomoat.share.xet.scopes import scope_of
from nomoat.share.xet.shard import MOST_SHARD_BYTES, ShardXorb, write_shard
from nomoat.share.xet.xorb import MOST_PACKED_BYTES, read_xorb

__all__ = ["ROUTES"]

_TOKEN_SECONDS = 3600
_WRITE = "xet-write"  # in the place of a ticket's digest
_SCOPES = "/v1/xet"


async def _token(request: Request) -> Response:
    """A token that is good for sending to one repository for an hour."""
    hub, who = hub_of(request), await identity_of(request)

    def made() -> tuple[Ticket, str]:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        ticket = Ticket(who.user_id, repo.id, repo.owner_id, _WRITE, 0, int(time.time()) + _TOKEN_SECONDS)
        return ticket, scope_of(hub.registry.database, who.user_id)

    ticket, scope = await hub.call(made)
    token, address = hub.tickets.sign(ticket), f"{base_url(request)}{_SCOPES}/{scope}"
    response = json_response({"accessToken": token, "exp": ticket.expires, "casUrl": address})
    response.headers["X-Xet-Access-Token"] = token
    response.headers["X-Xet-Token-Expiration"] = str(ticket.expires)
    response.headers["X-Xet-Cas-Url"] = address
    return response


async def _known_chunk(request: Request) -> Response:
    """The xorbs of a file that has this chunk, for somebody who may use all of them."""
    hub, who, ticket = await _admitted(request)
    chunk = _hash(request)

    def found() -> bytes | None:
        xorbs = hub.intake.xorbs.with_chunk(who, chunk)
        return write_shard([ShardXorb(xorb.hash, xorb.chunks) for xorb in xorbs]) if xorbs else None

    shard = await hub.call(found)
    if shard is None:
        await hub.indexing.of(ticket.repo_id)
        shard = await hub.call(found)
    if shard is None:
        raise HttpProblem("not_found", "no chunk of that hash is known")
    return Response(shard, media_type="application/octet-stream")


async def _take_xorb(request: Request) -> Response:
    hub = hub_of(request)
    async with hub.turns.begun(request.headers.get("authorization", "")) as turn:
        _, who, ticket = await _admitted(request)
        hash = _hash(request)
        size = int(request.headers.get("content-length", "0") or 0)
        with hub.coming.counted(ticket.owner_id, size):
            await hub.call(_require_room, hub, ticket, size)
            content = await read_buffer(request, MOST_PACKED_BYTES)
            xorb = await hub.read(read_xorb, content, hash)
            await turn.comes()
            new = await hub.read(hub.intake.take_xorb, who, ticket.repo_id, hash, xorb)
    return json_response({"was_inserted": new})


async def _take_shard(request: Request) -> Response:
    hub, who, ticket = await _admitted(request)
    content = await read_content(request, MOST_SHARD_BYTES)
    await hub.read(hub.intake.take_shard, who, ticket.repo_id, content)
    return json_response({"result": 1})


async def _admitted(request: Request) -> tuple[Hub, Identity, Ticket]:
    """Who sends, by the token that `_token` gave."""
    hub = hub_of(request)

    def read() -> tuple[Identity, Ticket]:
        ticket = hub.tickets.read(bearer_token(request.headers.get("authorization", "")))
        account = hub.registry.accounts.by_id(ticket.user_id)
        if ticket.digest != _WRITE or account.suspended:
            raise HttpProblem("forbidden", "this token is not for sending files", "ask for a new one")
        # An admin may read everything; what a client sends on his behalf may only build on what is his.
        return replace(hub.registry.accounts.identity(account.name, "write"), is_admin=False), ticket

    who, ticket = await hub.call(read)
    return hub, who, ticket


def _require_room(hub: Hub, ticket: Ticket, size: int) -> None:
    others = hub.coming.bytes_of(ticket.owner_id) - size
    hub.registry.claims.require_room(ticket.user_id, ticket.owner_id, size, others)


def _hash(request: Request) -> bytes:
    try:
        return from_text(request.path_params["hash"])
    except InputError as error:
        raise HttpProblem("bad_input", error.message, error.hint) from error


ROUTES: tuple[BaseRoute, ...] = (
    Route("/api/models/{owner}/{name}/xet-write-token/{revision:path}", _token, methods=["GET"]),
    Route("/api/datasets/{owner}/{name}/xet-write-token/{revision:path}", _token, methods=["GET"]),
    Route(f"{_SCOPES}/{{scope}}/v1/chunks/{{prefix}}/{{hash}}", _known_chunk, methods=["GET"]),
    Route(f"{_SCOPES}/{{scope}}/v1/xorbs/{{prefix}}/{{hash}}", _take_xorb, methods=["POST"]),
    Route(f"{_SCOPES}/{{scope}}/v1/shards", _take_shard, methods=["POST"]),
    Route(f"{_SCOPES}/{{scope}}/shards", _take_shard, methods=["POST"]),
)
