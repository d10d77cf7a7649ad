"""`POST /api/chat` and `POST /api/generate`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import OverloadedError
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
from nomoat.server.errors import ollama_error
from nomoat.server.fill_in import fill_in_tokens
from nomoat.server.models import Models
from nomoat.server.named_events import foreseen
from nomoat.server.ollama.answers import AnswerLines, figures, tool_call
from nomoat.server.ollama.translate import (
    check_supported,
    continued_turn,
    conversation,
    functions,
    json_schema,
    kept_for_no_time,
    model_name,
    sampling,
)
from nomoat.server.ollama.wire import ChatRequest, GenerateRequest
from nomoat.server.prefill import check_thinks, continued
from nomoat.server.reasoning import effort_variables
from nomoat.server.service import Service, service_of
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "Run", "chat", "encoded", "generate"]

_NDJSON = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode
Line = dict[str, Any]


async def chat(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation, as a stream of lines unless told otherwise."""
    check_supported(body)
    service, lines = service_of(request), AnswerLines(body.model, chat=True)
    if not body.messages:
        return await _loaded(service, body, lines)
    wanted = AnswerRequest(
        model=model_name(body.model), sampling=sampling(body.options, body.logprobs, body.top_logprobs),
        messages=conversation(body.messages), tools=functions(body.tools), schema=json_schema(body.format),
        client=client_of(request), template_variables=effort_variables(body.think), reasoning=True,
    )  # fmt: skip
    wanted = await to_thread.run_sync(_continued, service.models, wanted)
    return await _answered(request, service, wanted, Run(lines, body.stream is not False))


async def generate(request: Request, body: GenerateRequest) -> Response:
    """Continue a prompt, in the model's chat form unless it is `raw`."""
    check_supported(body)
    service, lines = service_of(request), AnswerLines(body.model, chat=False)
    if not body.prompt:
        return await _loaded(service, body, lines)
    wanted = AnswerRequest(
        model=model_name(body.model), sampling=sampling(body.options, body.logprobs, body.top_logprobs),
        schema=json_schema(body.format), client=client_of(request),
        template_variables=effort_variables(body.think), reasoning=not body.raw,
    )  # fmt: skip
    wanted = await to_thread.run_sync(_with_prompt, service.models, wanted, body)
    run = Run(lines, body.stream is not False, keeps_context=not body.raw)
    return await _answered(request, service, wanted, run)


def _continued(models: Models, wanted: AnswerRequest) -> AnswerRequest:
    check_thinks(models, wanted, "think")
    return continued(models, wanted)


def _with_prompt(models: Models, wanted: AnswerRequest, body: GenerateRequest) -> AnswerRequest:
    check_thinks(models, wanted, "think")
    prompt = body.prompt or ""
    if body.raw:
        return replace(wanted, prompt=prompt)
    if body.suffix:
        engine = models.resolve(wanted.model).engine
        return replace(wanted, prompt=fill_in_tokens(engine, prompt, body.suffix), reasoning=False)
    messages = [{"role": "system", "content": body.system}] if body.system else []
    messages.append({"role": "user", "content": prompt})
    if not body.context:
        return replace(wanted, messages=messages)
    engine = models.resolve(wanted.model).engine
    tokens = [
        *body.context,
        *engine.encode(continued_turn(engine.template, messages, wanted.template_variables)),
    ]
    stop = (*wanted.sampling.stop, *engine.template.stop)
    return replace(wanted, prompt=tokens, sampling=replace(wanted.sampling, stop=stop))


async def _loaded(service: Service, body: ChatRequest | GenerateRequest, lines: AnswerLines) -> Response:
    """Without a prompt, Ollama only loads the model; `ollama stop` asks that it be kept for no time."""
    name = model_name(body.model)
    if not kept_for_no_time(body.keep_alive):
        await to_thread.run_sync(service.models.resolve, name)
        return json_response(lines.end("load", {}))
    await to_thread.run_sync(_unload, service, name)
    return json_response(lines.end("unload", {}))


def _unload(service: Service, name: str) -> None:
    if service.answers.running.of(service.models.entry(name.partition("+")[0]).name):
        raise OverloadedError(f"{name} is answering somebody", "try again when it has finished", 5.0)
    service.models.unload(name)


@dataclass
class Run:
    """One answer on its way: what has come so far that lines do not hold yet."""

    lines: AnswerLines
    stream: bool
    keeps_context: bool = False
    started: float = field(default_factory=time.monotonic)
    context: list[int] = field(default_factory=list)
    call: tuple[str, str, list[str]] | None = None
    calls: int = 0

    def parts(self, event: Event) -> list[Line]:
        """The lines that `event` completes."""
        match event:
            case PromptProgress():
                return []  # it is not asked for
            case TextDelta():
                self.context += event.token_ids
                wanted = event.text or event.logprobs
                return [self.lines.part(event.text, logprobs=event.logprobs)] if wanted else []
            case ReasoningDelta():
                return [self.lines.part(thinking=event.text)]
            case ToolCallBegun():
                lines = self._finished_call()
                self.call = (event.id, event.name, [])
                return lines
            case ToolArguments():
                assert self.call is not None
                self.call[2].append(event.text)
                return []
            case Finished():
                context = self.context if self.keeps_context else None
                return [*self._finished_call(), self.lines.end(_reason(event), self._counts(event), context)]

    def _finished_call(self) -> list[Line]:
        """The line of the call whose arguments have all come: Ollama sends calls as a whole."""
        if self.call is None:
            return []
        identity, name, arguments = self.call
        call = tool_call(self.calls, identity, name, "".join(arguments))
        self.call, self.calls = None, self.calls + 1
        return [self.lines.part(calls=[call])]

    def _counts(self, end: Finished) -> dict[str, int]:
        """Counts and durations of the whole."""
        seconds = time.monotonic() - self.started
        return figures(
            total_seconds=seconds, load_seconds=max(0.0, seconds - end.prompt_seconds - end.decode_seconds),
            prompt_tokens=end.usage.prompt, prompt_seconds=end.prompt_seconds,
            completion_tokens=end.usage.completion, completion_seconds=end.decode_seconds,
        )  # fmt: skip


async def _answered(request: Request, service: Service, wanted: AnswerRequest, run: Run) -> Response:
    answer = await while_connected(request, service.answers.begin(wanted))
    if run.keeps_context:
        run.context += answer.prompt_tokens
    if run.stream:
        return event_stream(encoded(_lines(answer, run)), _NDJSON)
    return json_response(await while_connected(request, _whole(answer, run)))


async def _lines(answer: Answer, run: Run) -> AsyncGenerator[Line, None]:
    async with aclosing(answer):
        async for event in answer:
            for line in run.parts(event):
                yield line


async def _whole(answer: Answer, run: Run) -> Line:
    """All lines put into one."""
    async with aclosing(_lines(answer, run)) as lines:
        return run.lines.joined([line async for line in lines])


def _reason(end: Finished) -> str:
    return "length" if end.reason == "length" else "stop"


async def encoded(lines: AsyncGenerator[Line, None]) -> AsyncIterator[bytes]:
    """Lines of JSON; an error in the middle becomes the last one."""
    async with aclosing(lines):
        try:
            async for line in lines:
                yield _encode(line) + b"\n"
        except Exception as error:
            yield _encode(ollama_error(foreseen(error))) + b"\n"


OPERATIONS = (
    Operation("POST", "/api/chat", chat, "Answer a conversation.", ChatRequest, problem=ollama_error,
              streams=_NDJSON, tag="ollama"),
    Operation("POST", "/api/generate", generate, "Continue a prompt.", GenerateRequest, problem=ollama_error,
              streams=_NDJSON, tag="ollama"),
)  # fmt: skip
