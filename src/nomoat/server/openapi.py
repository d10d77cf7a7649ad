"""The OpenAPI 3.1 document, made from the same operations and structs that answer requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from nomoat import __version__
from nomoat.server.wire import Body, Operation

__all__ = ["openapi_document"]

_REF = "#/components/schemas/{name}"
_ERRORS = {
    "400": "The request cannot be used as it is", "401": "No API key, or a wrong one", "403": "Not from here",
    "404": "No such model, adapter or path", "405": "Not with this method", "408": "The body did not come",
    "409": "The adapter does not fit the model, or a file is damaged", "413": "The body is too large",
    "429": "Too many requests wait; see Retry-After", "501": "Not supported",
    "503": "No memory, or the engine had to be restarted",
}  # fmt: skip

_STREAMED = {
    "text/event-stream": {
        "description": "One event of the stream", "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}}, "required": ["data"],
    },
}  # fmt: skip


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document as a dictionary."""
    bodies = [op.body for op in operations if op.body is not None]
    schemas, components = msgspec.json.schema_components(bodies, ref_template=_REF)
    by_body = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, Any] = {}
    for op in operations:
        path = op.path.replace(":path}", "}")
        paths.setdefault(path, {})[op.method.lower()] = _operation(op, path, by_body)
    components["Error"] = _error_schema()
    return {
        "openapi": "3.1.0",
        "info": {"title": "nomoat", "version": __version__,
                 "description": "Open models on this machine. OpenAI's API and some more."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }  # fmt: skip


def _operation(op: Operation, path: str, bodies: dict[type[Body], dict[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": list(op.answer)}}}
    if op.media_type != "application/json":
        content = {op.media_type: {"schema": {"type": "string"}}}
    if op.streams:
        content[op.streams] = {"schema": _STREAMED.get(op.streams, {"type": "string"})}
    described: dict[str, Any] = {
        "operationId": f"{op.method.lower()}{re.sub(r'[^a-z0-9]+', '_', path.lower())}",
        "summary": op.summary,
        "tags": [op.tag],
        "responses": {
            str(op.status): {"description": "The answer", "content": content},
            **{status: _problem(text) for status, text in _ERRORS.items()},
        },
    }
    names = re.findall(r"{(\w+)}", path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if op.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": bodies[op.body]}},
        }
    return described


def _problem(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
    }


def _error_schema() -> dict[str, Any]:
    # Each protocol writes errors in its own way, but all of them are objects with an `error`.
    return {"title": "Error", "type": "object", "properties": {"error": {}}, "required": ["error"]}
