"""Answers without a protocol: a request goes in, events come out. Every wire format translates to and from these.

    answer = await answers.begin(AnswerRequest(...))     # raises the NomoatError that refuses it
    async with aclosing(answer):
        async for event in answer: ...      # ReasoningDelta, TextDelta, ToolCallBegun, ToolArguments; then Finished

Where the request wants it, some `PromptProgress` come before them.

Closing an answer, or cancelling the task that reads it, stops the engine's work for it at once. Where the prompt is
long, `begin` does not wait for it to be read: a client must learn in time that its request was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from anyio import CancelScope, to_thread

from nomoat.base.errors import InputError
from nomoat.run.adapters import AdapterRef
from nomoat.run.client import EngineRestartError
from nomoat.run.generation import Chunk, Generation
from nomoat.run.protocol import GenerateResult
from nomoat.run.sampling import SamplingParams
from nomoat.server.answer_events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallBegun,
    Usage,
)
from nomoat.server.errors import BadRequest
from nomoat.server.metrics import Metrics
from nomoat.server.models import Models, Target
from nomoat.server.reasoning import THINK_START, ReasoningParser
from nomoat.server.running import RunningAnswer, RunningAnswers
from nomoat.server.tool_parser import ToolCallParser, ToolPiece
from nomoat.server.tools import Tool, ToolChoice, answer_grammar, with_tools

__all__ = ["Answer", "AnswerRequest", "Answers"]

Content = Mapping[str, Any]
_SECONDS_TO_REFUSE = (
    10.0  # proxies and clients wait for the head of an answer a minute or more, but not for ever
)
_TOKENS_OF_THINK_START = 8  # where it is no token of its own, with the line break that follows


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """What a client wants, whatever it speaks.

    Give `messages` (`{"role", "content": text}`; an assistant's may have `tool_calls`
    `[{"id", "name", "arguments": text}]`, a tool's has `tool_call_id`), or `prompt` as text or token ids.
    `schema` is a JSON schema that the answer obeys, True for any JSON object; the request has it in `schema_field`.
    `client` is whom the scheduler treats as one party. Without `reuse` nothing that is remembered of the prompt is
    used. `progress` lets `PromptProgress` come. `template_variables` are switches of the model's chat template;
    `reasoning` tells apart what a model that thinks writes before its answer.
    """

    model: str
    sampling: SamplingParams
    messages: Sequence[Content] | None = None
    prompt: str | Sequence[int] | None = None
    adapters: tuple[AdapterRef, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    schema: Mapping[str, Any] | bool | None = None
    schema_field: str = "response_format"
    client: str = ""
    reuse: bool = True
    progress: bool = False
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The engine's work for a request, and the events that come of it."""

    target: Target
    running: RunningAnswer
    events: AsyncGenerator[Event, None]


class Answer:
    """The events of one answer, the first of which is there already, or is waited for."""

    def __init__(self, attempt: _Attempt, first: asyncio.Task[tuple[_Attempt, Event]]) -> None:
        self._attempt = attempt
        self._first: asyncio.Task[tuple[_Attempt, Event]] | None = first

    @property
    def model(self) -> str:
        """The name under which the model is served, with the adapters of the request."""
        return self._attempt.target.name

    @property
    def running(self) -> RunningAnswer:
        """What the engine does for it."""
        return self._attempt.running

    @property
    def prompt_tokens(self) -> Sequence[int]:
        """Token ids of the prompt."""
        return self.running.prompt_tokens

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._first is not None:
            self._attempt, event = await self._first
            self._first = None
            return event
        return await anext(self._attempt.events)

    async def aclose(self) -> None:
        """Stop the engine's work for this answer."""
        if self._first is not None:
            await _ended(self._first)
        await self._attempt.events.aclose()


class Answers:
    """Begins answers and knows those that are on their way."""

    def __init__(
        self, models: Models, metrics: Metrics, seconds_to_refuse: float = _SECONDS_TO_REFUSE
    ) -> None:
        """`begin` waits no longer than `seconds_to_refuse` for an answer's first event."""
        self.models, self.metrics, self._seconds_to_refuse = models, metrics, seconds_to_refuse
        self.running = RunningAnswers(models.parallel)

    async def begin(self, request: AnswerRequest) -> Answer:
        """Start an answer and wait for its first event, or a while. Raises the `NomoatError` that refuses it."""
        start = time.monotonic()
        attempt = await self._attempt(request, start)
        first = asyncio.ensure_future(self._first(request, attempt, start))
        try:
            await asyncio.wait({first}, timeout=self._seconds_to_refuse)
        except asyncio.CancelledError:
            await _ended(first)
            raise
        if first.done():
            attempt, _ = first.result()
        return Answer(attempt, first)

    async def _first(self, request: AnswerRequest, attempt: _Attempt, start: float) -> tuple[_Attempt, Event]:
        """The first event, and the attempt that it came of."""
        try:
            return attempt, await anext(attempt.events)
        except EngineRestartError:  # because of somebody else's request; nobody has seen a byte of this one
            if request.sampling.grammar is not None:  # it could be the next to end a worker
                raise
            attempt = await self._attempt(request, start)
            return attempt, await anext(attempt.events)

    async def _attempt(self, request: AnswerRequest, start: float) -> _Attempt:
        target, running, reasoning = await to_thread.run_sync(self._start, request)
        return _Attempt(target, running, self._events(running, start, reasoning, _parser(request)))

    def end_all(self) -> None:
        """Let every answer end now: what was made so far still arrives, then its last event."""
        for running in self.running.all():
            running.generation.cancel()

    def _start(self, request: AnswerRequest) -> tuple[Target, RunningAnswer, ReasoningParser | None]:
        target = self.models.resolve(request.model, request.adapters)
        sampling = replace(request.sampling, grammar=_grammar(request))
        if request.messages is not None:
            template = target.engine.template
            messages = with_tools(request.messages, request.tools, request.tool_choice)
            tokens: Sequence[int] = target.engine.encode_chat(messages, request.template_variables)
            sampling = replace(sampling, stop=(*sampling.stop, *template.stop))
        elif isinstance(request.prompt, str):
            tokens = target.engine.encode(request.prompt, add_special=True)
        else:
            tokens = list(request.prompt or ())
        if not tokens:
            raise InputError("the prompt is empty", "give at least one token")
        _check_biases(sampling, target.engine.model.n_vocab)
        reasoning = _reasoning(request, target, tokens)
        generation = target.engine.generate(
            tokens, sampling, target.adapters, reuse=request.reuse, client=request.client,
            progress=request.progress,
        )  # fmt: skip
        return target, RunningAnswer(target.base, generation, tokens, sampling), reasoning

    async def _events(
        self, running: RunningAnswer, start: float, reasoning: ReasoningParser | None,
        tools: ToolCallParser | None,
    ) -> AsyncGenerator[Event, None]:  # fmt: skip
        generation, thought = running.generation, 0
        self.running.begin(running)
        self.metrics.running.inc()
        first = True
        try:
            async with aclosing(_chunks(generation)) as chunks:
                async for chunk in chunks:
                    running.made_tokens += len(chunk.token_ids)
                    if first and chunk.progress is None:
                        self.metrics.first_token(time.monotonic() - start)
                        first = False
                    events = _translate(chunk, reasoning, tools)
                    thought += len(chunk.token_ids) if reasoning is not None and reasoning.thinking else 0
                    for event in events:
                        if isinstance(event, Finished):
                            event = replace(event, usage=replace(event.usage, reasoning=thought))
                        yield event
        finally:
            self.running.end(running)
            self.metrics.running.dec()
            self.metrics.answer(generation.result, time.monotonic() - start)


async def _ended(first: asyncio.Task[tuple[_Attempt, Event]]) -> None:
    """Stop what waits for a first event; where it came meanwhile, what it came of."""
    first.cancel()
    with CancelScope(shield=True):
        [outcome] = await asyncio.gather(first, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            await outcome[0].events.aclose()


async def _chunks(generation: Generation) -> AsyncGenerator[Chunk, None]:
    """The chunks as they come, without a thread that waits for them."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(arrived.set)

    generation.on_arrival(notify)
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            while generation.ready:
                chunk = next(generation)
                yield chunk
                if chunk.result is not None:
                    return
    finally:
        generation.cancel()  # means nothing once it has finished


def _parser(request: AnswerRequest) -> ToolCallParser | None:
    wanted = request.tools and request.tool_choice.mode != "none"
    return ToolCallParser(request.tools, request.tool_choice.parallel) if wanted else None


def _reasoning(request: AnswerRequest, target: Target, tokens: Sequence[int]) -> ReasoningParser | None:
    """Where what a model thinks is told apart. An answer of an enforced form has none, whatever the prompt opens."""
    if not request.reasoning or not target.engine.template.thinks:
        return None
    if request.schema or request.tool_choice.mode == "required":
        return None
    end = target.engine.detokenize(tokens[-_TOKENS_OF_THINK_START:]).rstrip()
    return ReasoningParser(end.endswith(THINK_START))


def _translate(chunk: Chunk, reasoning: ReasoningParser | None, tools: ToolCallParser | None) -> list[Event]:
    if chunk.progress is not None:
        return [chunk.progress]
    events: list[Event] = []
    ended = chunk.result is not None
    if reasoning is None and tools is None:
        if chunk.text or chunk.token_ids:
            events.append(TextDelta(chunk.text, chunk.token_ids, chunk.logprobs))
    else:
        if chunk.token_ids:
            events.append(TextDelta("", chunk.token_ids, chunk.logprobs))
        pieces = [(False, chunk.text)] if reasoning is None else reasoning.push(chunk.text)
        pieces += reasoning.finish() if reasoning is not None and ended else []
        for is_reasoning, text in pieces:
            events += [ReasoningDelta(text)] if is_reasoning else _answered(text, tools)
        events += [_as_event(piece) for piece in tools.finish()] if tools is not None and ended else []
    if chunk.result is not None:
        events.append(_finished(chunk.result, tools is not None and tools.calls > 0))
    return events


def _answered(text: str, tools: ToolCallParser | None) -> list[Event]:
    return [TextDelta(text)] if tools is None else [_as_event(piece) for piece in tools.push(text)]


def _as_event(piece: ToolPiece) -> Event:
    if piece.kind == "text":
        return TextDelta(piece.text)
    if piece.kind == "call":
        return ToolCallBegun(piece.index, piece.id, piece.text)
    return ToolArguments(piece.index, piece.text)


def _finished(result: GenerateResult, called_tools: bool) -> Finished:
    reason = "length" if result.finish_reason == "cancelled" else result.finish_reason
    if called_tools and reason == "stop":
        reason = "tool_calls"
    usage = Usage(
        result.prompt_tokens, result.cached_tokens + result.restored_tokens, result.completion_tokens,
        result.restored_tokens, result.draft_tokens, result.accepted_tokens, result.decoded_tokens,
    )  # fmt: skip
    return Finished(
        reason, usage, result.prompt_seconds, result.decode_seconds, result.seed, result.stop,
        result.end_token_id, result.end_logprob,
    )  # fmt: skip


def _grammar(request: AnswerRequest) -> str | None:
    schema: Any = {"type": "object"} if request.schema is True else request.schema or None
    grammar = answer_grammar(request.tools, request.tool_choice, schema, request.schema_field)
    return grammar or request.sampling.grammar


def _check_biases(sampling: SamplingParams, vocabulary_size: int) -> None:
    for token_id, _ in sampling.logit_bias:
        if token_id >= vocabulary_size:
            raise BadRequest(f"token id {token_id} is not in the vocabulary (0 to {vocabulary_size - 1})",
                             "logit_bias")  # fmt: skip
