"""Answers without a protocol: a request goes in, events come out. Every wire format translates to and from these.

    answer = await answers.begin(AnswerRequest(...))     # raises a NomoatError before anything is sent
    async with aclosing(answer):
        async for event in answer: ...      # ReasoningDelta, TextDelta, ToolCallBegun, ToolArguments; then Finished

Closing an answer, or cancelling the task that reads it, stops the engine's work for it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from anyio import to_thread

from nomoat.base.errors import InputError
from nomoat.run.adapters import AdapterRef
from nomoat.run.client import EngineRestartError
from nomoat.run.generation import Chunk, Generation
from nomoat.run.protocol import GenerateResult, TokenLogprob
from nomoat.run.sampling import SamplingParams
from nomoat.server.errors import BadRequest
from nomoat.server.metrics import Metrics
from nomoat.server.models import Models, Target
from nomoat.server.reasoning import THINK_START, ReasoningParser
from nomoat.server.running import RunningAnswer, RunningAnswers
from nomoat.server.tool_parser import ToolCallParser, ToolPiece
from nomoat.server.tools import Tool, ToolChoice, answer_grammar, with_tools

__all__ = [
    "Answer",
    "AnswerRequest",
    "Answers",
    "Event",
    "Finished",
    "ReasoningDelta",
    "TextDelta",
    "ToolArguments",
    "ToolCallBegun",
    "Usage",
]

Content = Mapping[str, Any]
_TOKENS_OF_THINK_START = 8  # where it is no token of its own, with the line break that follows


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """What a client wants, whatever it speaks.

    Give `messages` (`{"role", "content": text}`; an assistant's may have `tool_calls`
    `[{"id", "name", "arguments": text}]`, a tool's has `tool_call_id`), or `prompt` as text or token ids.
    `schema` is a JSON schema that the answer obeys, True for any JSON object; the request has it in `schema_field`.
    `client` is whom the scheduler treats as one party. Without `reuse` nothing that is remembered of the prompt is
    used. `template_variables` are switches of the model's chat template; `reasoning` tells apart what a model that
    thinks writes before its answer.
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
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text. `token_ids` are the tokens made since the delta before; text can lag behind."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers. Its tokens are in a `TextDelta` without text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallBegun:
    """The model calls a tool; its arguments follow. `index` counts the calls of this answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """More of the JSON text of call `index`'s arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `cached` of the prompt were not computed anew, `restored` of these came from the disk.

    `reasoning` of the completion came before the answer; the few beside its end count as answer.
    """

    prompt: int
    cached: int
    completion: int
    restored: int = 0
    drafted: int = 0
    accepted: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `reason` is "stop", "length" (also where the server had to stop early) or "tool_calls".

    `stop` is the stop string that ended the answer, empty where the model ended it itself.
    """

    reason: str
    usage: Usage
    prompt_seconds: float
    decode_seconds: float
    seed: int
    stop: str = ""


Event = ReasoningDelta | TextDelta | ToolCallBegun | ToolArguments | Finished


class Answer:
    """The events of one answer, the first of which is there already."""

    def __init__(
        self, model: str, running: RunningAnswer, first: Event, rest: AsyncGenerator[Event, None]
    ) -> None:
        self.model = model
        """The name under which the model is served, with the adapters of the request."""
        self.running = running
        self._first: Event | None = first
        self._rest = rest

    @property
    def prompt_tokens(self) -> Sequence[int]:
        """Token ids of the prompt."""
        return self.running.prompt_tokens

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._first is not None:
            event, self._first = self._first, None
            return event
        return await anext(self._rest)

    async def aclose(self) -> None:
        """Stop the engine's work for this answer."""
        await self._rest.aclose()


class Answers:
    """Begins answers and knows those that are on their way."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self.models, self.metrics = models, metrics
        self.running = RunningAnswers(models.parallel)

    async def begin(self, request: AnswerRequest) -> Answer:
        """Start an answer and wait for its first event. Raises the `NomoatError` that refuses it."""
        start = time.monotonic()
        try:
            return await self._begin(request, start)
        except EngineRestartError:  # because of somebody else's request; nobody has seen a byte of this one
            if request.sampling.grammar is not None:  # it could be the next to end a worker
                raise
            return await self._begin(request, start)

    async def _begin(self, request: AnswerRequest, start: float) -> Answer:
        target, running, reasoning = await to_thread.run_sync(self._start, request)
        events = self._events(running, start, reasoning, _parser(request))
        first = await anext(events)
        return Answer(target.name, running, first, events)

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
            tokens, sampling, target.adapters, reuse=request.reuse, client=request.client
        )
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
                    if first:
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
    enforced = request.schema or request.tool_choice.mode == "required"
    end = target.engine.detokenize(tokens[-_TOKENS_OF_THINK_START:]).rstrip()
    return ReasoningParser(not enforced and end.endswith(THINK_START))


def _translate(chunk: Chunk, reasoning: ReasoningParser | None, tools: ToolCallParser | None) -> list[Event]:
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
        result.restored_tokens, result.draft_tokens, result.accepted_tokens,
    )  # fmt: skip
    return Finished(reason, usage, result.prompt_seconds, result.decode_seconds, result.seed, result.stop)


def _grammar(request: AnswerRequest) -> str | None:
    schema: Any = {"type": "object"} if request.schema is True else request.schema or None
    grammar = answer_grammar(request.tools, request.tool_choice, schema, request.schema_field)
    return grammar or request.sampling.grammar


def _check_biases(sampling: SamplingParams, vocabulary_size: int) -> None:
    for token_id, _ in sampling.logit_bias:
        if token_id >= vocabulary_size:
            raise BadRequest(f"token id {token_id} is not in the vocabulary (0 to {vocabulary_size - 1})",
                             "logit_bias")  # fmt: skip
