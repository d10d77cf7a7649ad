"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import NomoatError
from nomoat.run.protocol import PromptProgress
from nomoat.run.sampling import SamplingParams
from nomoat.server.answer_events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallBegun,
)
from nomoat.server.answers import Answer, AnswerRequest
from nomoat.server.anthropic.events import MessageEvents, usage
from nomoat.server.anthropic.translate import (
    check_supported,
    conversation,
    functions,
    may_think,
    must_think,
    sampling,
    tool_choice,
)
from nomoat.server.anthropic.wire import CountRequest, MessagesRequest
from nomoat.server.errors import anthropic_error
from nomoat.server.models import Models
from nomoat.server.named_events import named_events
from nomoat.server.prefill import check_thinks, continued, prompt_tokens
from nomoat.server.reasoning import effort_variables
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "broken_off", "count_tokens", "create_message", "translated"]

Part = dict[str, Any]


async def create_message(request: Request, body: MessagesRequest) -> Response:
    """Answer a conversation, at once or as a stream."""
    service = service_of(request)
    form = body.output_config.format if body.output_config else None
    client = client_of(request, body.metadata.user_id if body.metadata else None)
    schema = form.schema if form else None
    wanted = replace(_conversation(body), sampling=sampling(body), schema=schema, client=client)
    wanted = await to_thread.run_sync(_continued, service.models, wanted, must_think(body))
    answer = await while_connected(request, service.answers.begin(wanted))
    events = MessageEvents(f"msg_{secrets.token_hex(12)}", answer.model)
    if body.stream:
        return event_stream(named_events(_stream(answer, events), broken_off))
    return json_response(await while_connected(request, _whole(answer, events)))


async def count_tokens(request: Request, body: CountRequest) -> Response:
    """How many tokens the prompt of a conversation has, tools included."""
    models, wanted = service_of(request).models, _conversation(body)
    tokens = await to_thread.run_sync(prompt_tokens, models, wanted)
    return json_response({"input_tokens": len(tokens)})


def _conversation(body: CountRequest) -> AnswerRequest:
    """What is common to answering and counting."""
    check_supported(body)
    return AnswerRequest(
        model=body.model, sampling=SamplingParams(), messages=conversation(body.system, body.messages),
        tools=functions(body.tools), tool_choice=tool_choice(body.tool_choice),
        template_variables=effort_variables(may_think(body)), reasoning=True,
    )  # fmt: skip


def _continued(models: Models, wanted: AnswerRequest, thinking: bool) -> AnswerRequest:
    if thinking:
        check_thinks(models, wanted, "thinking")
    return continued(models, wanted)


async def _stream(answer: Answer, events: MessageEvents) -> AsyncGenerator[Part, None]:
    async with aclosing(answer):
        for part in events.begin(len(answer.prompt_tokens)):
            yield part
        async for event in answer:
            for part in translated(event, events):
                yield part


async def _whole(answer: Answer, events: MessageEvents) -> dict[str, Any]:
    async with aclosing(answer):
        async for event in answer:
            translated(event, events)
    return events.message


def translated(event: Event, events: MessageEvents) -> list[Part]:
    """One event of an answer in Anthropic's words."""
    match event:
        case PromptProgress():
            return []  # it is not asked for
        case TextDelta():
            return events.text(event.text)
        case ReasoningDelta():
            return events.thinking(event.text)
        case ToolCallBegun():
            return events.tool(event.id, event.name)
        case ToolArguments():
            return events.arguments(event.text)
        case Finished():
            counts = usage(event.usage.prompt, event.usage.cached, event.usage.completion)
            return events.end(event.reason, event.stop, counts)


def broken_off(error: NomoatError) -> list[Part]:
    """The event that ends a stream in which something failed."""
    return [anthropic_error(error)]


OPERATIONS = (
    Operation("POST", "/v1/messages", create_message, "Answer a conversation.", MessagesRequest,
              problem=anthropic_error, streams="text/event-stream", tag="anthropic"),
    Operation("POST", "/v1/messages/count_tokens", count_tokens, "Count a conversation's tokens.", CountRequest,
              problem=anthropic_error, tag="anthropic"),
)  # fmt: skip
