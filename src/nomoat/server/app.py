"""The application: routes from operations, errors as each protocol writes them, the guard in front of all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomoat.base.errors import NomoatError
from nomoat.server import (
    about,
    adapters,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_models,
    tokens,
)
from nomoat.server.anthropic import routes as anthropic
from nomoat.server.errors import HttpProblem, error_response, headers_of, problem_of, status_of, writer_for
from nomoat.server.guard import Guard
from nomoat.server.llama_server import routes as llama_server
from nomoat.server.ollama import routes as ollama
from nomoat.server.openapi import openapi_document
from nomoat.server.responses import routes as responses
from nomoat.server.service import Service
from nomoat.server.wire import Operation, json_response, read_body

__all__ = ["OPERATIONS", "make_app"]

_OPERATIONS: tuple[Operation, ...] = (
    *openai_chat.OPERATIONS,
    *openai_completions.OPERATIONS,
    *openai_embeddings.OPERATIONS,
    *openai_models.OPERATIONS,
    *responses.OPERATIONS,
    *anthropic.OPERATIONS,
    *ollama.OPERATIONS,
    *llama_server.OPERATIONS,
    *adapters.OPERATIONS,
    *tokens.OPERATIONS,
    *about.OPERATIONS,
)
_ALIASES = {
    "/chat/completions": "/v1/chat/completions",
    "/chat/completions/input_tokens": "/v1/chat/completions/input_tokens",
    "/models": "/v1/models",
    "/responses": "/v1/responses",
    "/responses/input_tokens": "/v1/responses/input_tokens",
    "/v1/health": "/health",
}
"""Other names under which llama-server answers."""

OPERATIONS = _OPERATIONS + tuple(
    replace(operation, path=alias)
    for alias, path in _ALIASES.items()
    for operation in _OPERATIONS
    if operation.path == path
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


def make_app(service: Service, operations: Sequence[Operation] = OPERATIONS) -> Starlette:
    """The ASGI application for `service`."""
    document = msgspec.json.encode(openapi_document(operations))

    async def openapi(request: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [Route(op.path, _endpoint(op), methods=[op.method]) for op in operations]
    routes.append(Route("/openapi.json", openapi, methods=["GET"]))
    cors = Middleware(CORSMiddleware, allow_origins=service.policy.allowed_origins, allow_methods=["*"],
                      allow_headers=["*"])  # fmt: skip
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(_Counter, service=service), Middleware(Guard, policy=service.policy),
            *([cors] if service.policy.allowed_origins else []),
        ],
        exception_handlers={HTTPException: _http_error},
    )  # fmt: skip
    app.state.service = service
    return app


def _endpoint(operation: Operation) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            if operation.body is None:
                return await operation.handler(request)
            return await operation.handler(request, await read_body(request, operation.body))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; the log and the figures do
        except Exception as error:
            problem = problem_of(error)
            if not isinstance(error, NomoatError):
                logging.getLogger("nomoat.server").exception("%s %s", operation.method, operation.path)
            return _error_in(operation, request, problem)

    return endpoint


def _error_in(operation: Operation, request: Request, problem: NomoatError) -> Response:
    """An error in the protocol of `operation`."""
    response = json_response(writer_for(request, operation.problem)(problem), status_of(problem))
    response.headers.update(headers_of(problem))
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path[:200]
    what = "there is nothing at" if status == 404 else f"{request.method} is not what one does with"
    return error_response(request, HttpProblem(_HTTP_CODES.get(status, "bad_input"), f"{what} {path}",
                                               "/openapi.json lists what is there"))  # fmt: skip


class _Counter:
    """Counts answers by route and status, those of the guard too."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # Only known routes: a scanner must not fill the memory with labels.
            route = scope.get("route")
            self._metrics.request(
                getattr(route, "path", "other"), scope["method"] if route else "other", status
            )
