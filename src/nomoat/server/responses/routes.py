"""`/v1/responses`: create, read and delete; each may go on from an earlier one that the server has kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import NomoatError
from nomoat.run.adapters import AdapterRef
from nomoat.run.protocol import PromptProgress
from nomoat.server.answer_events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallBegun,
)
from nomoat.server.answers import Answer, AnswerRequest
from nomoat.server.errors import openai_error_about
from nomoat.server.named_events import named_events
from nomoat.server.prefill import prompt_tokens
from nomoat.server.reasoning import effort_variables
from nomoat.server.responses.events import ResponseEvents, usage
from nomoat.server.responses.state import ResponseStore, Turn
from nomoat.server.responses.translate import (
    check_supported,
    conversation,
    functions,
    input_items,
    json_schema,
    sampling,
    tool_choice,
)
from nomoat.server.responses.wire import CreateRequest
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "count_tokens", "create", "list_input", "remove", "retrieve", "translated"]

Part = dict[str, Any]


class _Writer:
    """Makes the events of one answer, and keeps the turn before the last of them is sent."""

    def __init__(self, store: ResponseStore | None, items: Sequence[Part], events: ResponseEvents) -> None:
        self._store, self._items, self.events = store, list(items), events

    async def parts(self, answer: Answer) -> AsyncGenerator[Part, None]:
        """All events."""
        async with aclosing(answer):
            for part in self.events.begin():
                yield part
            async for event in answer:
                parts = translated(event, self.events)
                if isinstance(event, Finished) and self._store is not None:
                    turn = Turn(self._items, self.events.response)
                    await to_thread.run_sync(self._store.write, turn)
                for part in parts:
                    yield part

    async def whole(self, answer: Answer) -> Part:
        """The finished response."""
        async with aclosing(self.parts(answer)) as parts:
            async for _ in parts:
                pass
        return self.events.response

    def broken_off(self, error: NomoatError) -> list[Part]:
        """The event that ends a stream in which something failed."""
        return self.events.failed(error.message)


async def create(request: Request, body: CreateRequest) -> Response:
    """Answer the input, after the conversation that `previous_response_id` names."""
    items = input_items(body.input)
    wanted = await _understood(request, body, items)
    answer = await while_connected(request, service_of(request).answers.begin(wanted))
    kept = None if body.store is False else _store(request)
    writer = _Writer(kept, items, ResponseEvents(body, answer.model))
    if body.stream:
        return event_stream(named_events(writer.parts(answer), writer.broken_off))
    return json_response(await while_connected(request, writer.whole(answer)))


async def count_tokens(request: Request, body: CreateRequest) -> Response:
    """How many tokens the input has, with the conversation before it and tools."""
    wanted = await _understood(request, body, input_items(body.input))
    tokens = await to_thread.run_sync(prompt_tokens, service_of(request).models, wanted, False)
    return json_response({"object": "response.input_tokens", "input_tokens": len(tokens)})


async def _understood(request: Request, body: CreateRequest, items: list[dict[str, Any]]) -> AnswerRequest:
    """The request after the conversation that it goes on from. Raises `BadRequest` for what cannot be done."""
    check_supported(body)
    earlier = await to_thread.run_sync(_store(request).conversation, body.previous_response_id)
    return AnswerRequest(
        model=body.model, sampling=sampling(body),
        messages=conversation(body.instructions, [*earlier, *items]), tools=functions(body.tools),
        adapters=tuple(AdapterRef(adapter.name, adapter.scale) for adapter in body.adapters or ()),
        tool_choice=tool_choice(body.tool_choice, body.parallel_tool_calls), schema=json_schema(body),
        schema_field="text.format", client=client_of(request, body.user),
        template_variables=effort_variables(body.reasoning.effort if body.reasoning else None), reasoning=True,
    )  # fmt: skip


async def retrieve(request: Request) -> Response:
    """A response that was kept."""
    turn = await to_thread.run_sync(_store(request).read, request.path_params["response_id"])
    return json_response(turn.response)


async def remove(request: Request) -> Response:
    """Delete a response and the input that led to it; conversations that went through it end there."""
    identity = request.path_params["response_id"]
    await to_thread.run_sync(_store(request).remove, identity)
    return json_response({"id": identity, "object": "response", "deleted": True})


async def list_input(request: Request) -> Response:
    """The input of a response that was kept."""
    turn = await to_thread.run_sync(_store(request).read, request.path_params["response_id"])
    identities = [item["id"] for item in turn.input]
    return json_response({
        "object": "list", "data": turn.input, "first_id": identities[0] if identities else None,
        "last_id": identities[-1] if identities else None, "has_more": False,
    })  # fmt: skip


def _store(request: Request) -> ResponseStore:
    return ResponseStore(service_of(request).models.settings.home)


def translated(event: Event, events: ResponseEvents) -> list[Part]:
    """One event of an answer in the words of the Responses API."""
    match event:
        case PromptProgress():
            return []  # it is not asked for
        case TextDelta():
            return events.text(event.text, event.logprobs)
        case ReasoningDelta():
            return events.reasoning(event.text)
        case ToolCallBegun():
            return events.tool(event.id, event.name)
        case ToolArguments():
            return events.arguments(event.text)
        case Finished():
            used = event.usage
            counts = usage(used.prompt, used.cached, used.completion, used.reasoning)
            return events.end(event.reason, counts)


OPERATIONS = (
    Operation("POST", "/v1/responses", create, "Answer, and keep the conversation.", CreateRequest,
              problem=openai_error_about("input"), streams="text/event-stream"),
    Operation("POST", "/v1/responses/input_tokens", count_tokens, "Count the input's tokens.", CreateRequest,
              problem=openai_error_about("input")),
    Operation("GET", "/v1/responses/{response_id}", retrieve, "A kept response."),
    Operation("DELETE", "/v1/responses/{response_id}", remove, "Delete a kept response."),
    Operation("GET", "/v1/responses/{response_id}/input_items", list_input, "The input of a kept response."),
)  # fmt: skip
