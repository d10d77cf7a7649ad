"""`POST /v1/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from anyio import to_thread
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.protocol import PromptProgress, TokenLogprob
from nomoat.server.answer_events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallBegun,
)
from nomoat.server.answers import Answer, AnswerRequest
from nomoat.server.errors import BadRequest, openai_error_about
from nomoat.server.models import Models
from nomoat.server.openai_common import (
    FINGERPRINT,
    SamplingBody,
    new_id,
    openai_stream,
    sampling_of,
    usage_of,
)
from nomoat.server.openai_messages import (
    MessageBody,
    NamedTool,
    ResponseFormat,
    ToolBody,
    plain_messages,
    schema_of,
    template_variables,
    tool_choice_of,
    tools_of,
)
from nomoat.server.prefill import begun_answer, continued, prompt_tokens
from nomoat.server.service import service_of
from nomoat.server.several import begin_all, merged
from nomoat.server.timings import timings_of
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "ChatBody", "chat_completions", "count_tokens"]


class ChatBody(SamplingBody, kw_only=True):
    """A conversation to be answered."""

    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    reasoning_format: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None

    @property
    def continues(self) -> bool:
        """Whether a last message of the assistant is the beginning of the answer, as at llama-server and vLLM."""
        return self.continue_final_message is not False

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields that would change the answer and cannot be honoured."""
        return super().refused() | {
            "functions": "use 'tools'", "function_call": "use 'tool_choice'", "audio": "there is only text",
            "prediction": "drafts are made from the conversation itself",
            "web_search_options": "nothing here uses the network",
        }  # fmt: skip


async def chat_completions(request: Request, body: ChatBody) -> Response:
    """Answer a conversation, at once or as a stream."""
    service = service_of(request)
    requests = [_answer_request(request, body, choice) for choice in range(body.n or 1)]
    begun = begun_answer(requests[0].messages or ()) if body.continues else ""
    if begun:
        requests = await to_thread.run_sync(_continued, service.models, requests)
    answers = await while_connected(request, begin_all(service.answers, requests))
    head = _Head("chat.completion.chunk" if body.stream else "chat.completion", answers[0].model, begun)
    if body.stream:
        return event_stream(openai_stream(_stream(answers, head, body)))
    return json_response(await while_connected(request, _whole(answers, head, body)))


def _answer_request(request: Request, body: ChatBody, choice: int) -> AnswerRequest:
    limit = body.max_completion_tokens or body.limit
    if limit == 0 or body.limit == 0:
        raise BadRequest("max_tokens is 0", "max_tokens", "ask for at least one token")
    if body.top_logprobs and not body.logprobs:
        raise BadRequest("top_logprobs needs logprobs: true", "top_logprobs")
    logprobs = body.top_logprobs or 0 if body.logprobs else None
    tools = tools_of(body.tools or ())
    if body.tool_choice not in (None, "none", "auto") and not tools:
        raise BadRequest("tool_choice needs tools", "tool_choice")
    return AnswerRequest(
        model=body.model or "", sampling=sampling_of(body, choice, max_tokens=limit, logprobs=logprobs),
        messages=plain_messages(body.messages), adapters=body.adapter_refs, tools=tools,
        tool_choice=tool_choice_of(body.tool_choice, body.parallel_tool_calls),
        schema=body.wanted_json or schema_of(body.response_format),
        schema_field="json_schema" if body.wanted_json else "response_format",
        client=client_of(request, body.user), reuse=body.cache_prompt is not False,
        template_variables=template_variables(body.chat_template_kwargs, body.reasoning_effort),
        reasoning=body.reasoning_format != "none", progress=body.wants_progress,
    )  # fmt: skip


async def count_tokens(request: Request, body: ChatBody) -> Response:
    """How many tokens the prompt of a conversation has, tools included."""
    models, wanted = service_of(request).models, _answer_request(request, body, 0)
    tokens = await to_thread.run_sync(prompt_tokens, models, wanted, body.continues)
    return json_response({"object": "response.input_tokens", "input_tokens": len(tokens)})


def _continued(models: Models, requests: list[AnswerRequest]) -> list[AnswerRequest]:
    """The requests, whose answers go on with the conversation's last message."""
    first = continued(models, requests[0])
    return [
        replace(each, messages=None, prompt=first.prompt,
                sampling=replace(each.sampling, stop=first.sampling.stop))
        for each in requests
    ]  # fmt: skip


@dataclass(frozen=True)
class _Head:
    """What every object of one response begins with, and the `begun` text of its answers."""

    kind: str
    model: str
    begun: str = ""
    id: str = field(default_factory=lambda: new_id("chatcmpl-"))
    created: int = field(default_factory=lambda: int(time.time()))

    def wrap(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"id": self.id, "object": self.kind, "created": self.created, "model": self.model,
                "system_fingerprint": FINGERPRINT, "choices": choices, **more}  # fmt: skip


async def _stream(answers: list[Answer], head: _Head, body: ChatBody) -> AsyncGenerator[dict[str, Any], None]:
    more: dict[str, Any] = {"usage": None} if body.wants_usage else {}
    ends: list[Finished] = []
    figures = [body.figures() for _ in answers]
    async with aclosing(merged(answers)) as events:
        for index in range(len(answers)):
            yield head.wrap([_delta(index, {"role": "assistant", "content": head.begun})], **more)
        async for index, event in events:
            told = figures[index].add(event)
            if isinstance(event, Finished):
                ends.append(event)
                last = {**_delta(index, {}), "finish_reason": event.reason}
                yield head.wrap([last], timings=timings_of(event), **more)
            elif (delta := _event_delta(event, body)) is not None:
                yield head.wrap([{"index": index, "finish_reason": None, **delta}], **told, **more)
    if body.wants_usage:
        yield head.wrap([], usage=usage_of(ends))


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _event_delta(event: Event, body: ChatBody) -> dict[str, Any] | None:
    if isinstance(event, PromptProgress):
        return {"delta": {}, "logprobs": None} if body.return_progress else None
    if isinstance(event, TextDelta):
        logprobs = _logprobs(event.logprobs) if body.logprobs else None
        if not event.text and not (logprobs and logprobs["content"]):
            return None
        return {"delta": {"content": event.text} if event.text else {}, "logprobs": logprobs}
    if isinstance(event, ReasoningDelta):
        return {"delta": {"reasoning_content": event.text}, "logprobs": None}
    if isinstance(event, ToolCallBegun):
        call = {"index": event.index, "id": event.id, "type": "function",
                "function": {"name": event.name, "arguments": ""}}  # fmt: skip
    else:
        assert isinstance(event, ToolArguments)
        call = {"index": event.index, "function": {"arguments": event.text}}
    return {"delta": {"tool_calls": [call]}, "logprobs": None}


async def _whole(answers: list[Answer], head: _Head, body: ChatBody) -> dict[str, Any]:
    choices = [_Choice([head.begun]) for _ in answers]
    async with aclosing(merged(answers)) as events:
        async for index, event in events:
            choices[index].add(event)
    ends = [choice.end for choice in choices if choice.end is not None]
    rendered = [choice.render(index, bool(body.logprobs)) for index, choice in enumerate(choices)]
    return head.wrap(rendered, usage=usage_of(ends), timings=timings_of(ends[0]))


@dataclass
class _Choice:
    """One choice of an answer that is sent as a whole."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    end: Finished | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.text.append(event.text)
            self.logprobs += event.logprobs
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
        elif isinstance(event, ToolCallBegun):
            function = {"name": event.name, "arguments": ""}
            self.calls.append({"id": event.id, "type": "function", "function": function})
        elif isinstance(event, ToolArguments):
            self.calls[event.index]["function"]["arguments"] += event.text
        elif isinstance(event, Finished):
            self.end = event

    def render(self, index: int, with_logprobs: bool) -> dict[str, Any]:
        text = "".join(self.text)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if self.calls else "")}
        message["refusal"] = None
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return {
            "index": index, "message": message, "logprobs": _logprobs(self.logprobs) if with_logprobs else None,
            "finish_reason": self.end.reason if self.end else "length",
        }  # fmt: skip


def _logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [{**_entry(e), "top_logprobs": [_entry(t) for t in e.top]} for e in entries],
        "refusal": None,
    }


def _entry(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.token_bytes.decode("utf-8", "replace"), "logprob": entry.logprob,
            "bytes": list(entry.token_bytes)}  # fmt: skip


OPERATIONS = (
    Operation("POST", "/v1/chat/completions", chat_completions, "Answer a conversation.", ChatBody,
              problem=openai_error_about("messages"), streams="text/event-stream"),
    Operation("POST", "/v1/chat/completions/input_tokens", count_tokens, "Count a conversation's tokens.", ChatBody,
              problem=openai_error_about("messages")),
)  # fmt: skip
