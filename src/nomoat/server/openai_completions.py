"""`POST /v1/completions`: text or token ids in, with the log-probabilities that evaluation tools need."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any

from anyio import to_thread
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.protocol import PromptProgress, TokenLogprob
from nomoat.server.answer_events import Finished, TextDelta, Usage
from nomoat.server.answers import Answer, AnswerRequest
from nomoat.server.completion_logprobs import LogprobsTable
from nomoat.server.errors import BadRequest, openai_error_about
from nomoat.server.fill_in import fill_in_tokens
from nomoat.server.models import Target
from nomoat.server.openai_common import (
    FINGERPRINT,
    SamplingBody,
    new_id,
    openai_stream,
    sampling_of,
    usage_of,
)
from nomoat.server.service import Service, service_of
from nomoat.server.several import begin_all, merged
from nomoat.server.timings import timings_of
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "CompletionBody", "completions"]

_MOST_PROMPTS = 256


class CompletionBody(SamplingBody, kw_only=True):
    """A text to go on with: text, token ids, or a list of either."""

    prompt: str | list[int | str | list[int]]
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=100)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=64)] | None = None
    suffix: str | None = None


@dataclass
class _Choice:
    """One continuation: the prompt it belongs to and what has come of it."""

    prompt: str | list[int]
    tokens: list[int]
    echoed: str = ""
    scores: Sequence[TokenLogprob | None] = ()
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: Finished | None = None


async def completions(request: Request, body: CompletionBody) -> Response:
    """Go on with each prompt, `n` times, at once or as a stream."""
    service = service_of(request)
    prompts = _prompts(body.prompt)
    if body.best_of not in (None, body.n or 1):
        raise BadRequest("best_of is only supported where it equals n", "best_of")
    if body.suffix and body.echo:
        raise BadRequest("echo has no place between a prompt and its suffix", "echo", "leave it out")
    if body.limit == 0 and body.stream:
        raise BadRequest("there is nothing to stream with max_tokens 0", "max_tokens")
    work = _prepare(service, body, prompts, body.adapter_refs)
    target, choices = await while_connected(request, work)
    head = {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time()),
            "model": target.name, "system_fingerprint": FINGERPRINT}  # fmt: skip
    answers: list[Answer] = []
    if body.limit != 0:
        requests = [
            _answer_request(request, body, choice, n % (body.n or 1)) for n, choice in enumerate(choices)
        ]
        answers = await while_connected(request, begin_all(service.answers, requests))
    if body.stream:
        return event_stream(openai_stream(_stream(answers, choices, head, body)))
    return json_response(await while_connected(request, _whole(answers, choices, head, body)))


def _prompts(given: str | list[Any]) -> list[str | list[int]]:
    """The prompts of a request. A list of numbers is one prompt."""
    if isinstance(given, str):
        prompts: list[str | list[int]] = [given]
    elif given and all(isinstance(item, int) for item in given):
        prompts = [given]
    elif any(isinstance(item, int) for item in given):
        raise BadRequest("a list of prompts cannot have token ids beside texts or lists", "prompt")
    else:
        prompts = list(given)
    if not prompts or len(prompts) > _MOST_PROMPTS:
        raise BadRequest(f"{len(prompts)} prompts in one request; send 1 to {_MOST_PROMPTS}", "prompt")
    return prompts


async def _prepare(
    service: Service, body: CompletionBody, prompts: list[str | list[int]], adapters: Sequence[Any]
) -> tuple[Target, list[_Choice]]:
    """Tokens of every prompt, and where they are echoed their text and scores; one at a time."""
    target = await to_thread.run_sync(service.models.resolve, body.model or "", adapters)
    limiter = service.long_jobs if body.echo and body.logprobs is not None else None
    choices = []
    for prompt in prompts:
        first = await to_thread.run_sync(_first_choice, target, body, prompt, limiter=limiter)
        more = [
            _Choice(first.prompt, first.tokens, first.echoed, first.scores) for _ in range((body.n or 1) - 1)
        ]
        choices += [first, *more]
    return target, choices


def _first_choice(target: Target, body: CompletionBody, prompt: str | list[int]) -> _Choice:
    engine = target.engine
    if body.suffix:
        text = prompt if isinstance(prompt, str) else engine.detokenize(prompt)
        return _Choice(prompt, fill_in_tokens(engine, text, body.suffix))
    tokens = engine.encode(prompt, add_special=True) if isinstance(prompt, str) else prompt
    if not tokens:
        raise BadRequest("the prompt is empty", "prompt", "give at least one token")
    choice = _Choice(prompt, tokens)
    if body.echo:
        choice.echoed = prompt if isinstance(prompt, str) else engine.detokenize(tokens)
        if body.logprobs is not None:
            choice.scores = engine.prompt_logprobs(tokens, target.adapters, body.logprobs)
    return choice


def _answer_request(request: Request, body: CompletionBody, choice: _Choice, number: int) -> AnswerRequest:
    limit = 16 if body.limit is None else body.limit  # OpenAI's default for this endpoint
    # Whoever scores a prompt counts on exactly one token after it, even where the model would end there.
    scoring = bool(body.echo) and body.logprobs is not None and limit == 1
    sampling = sampling_of(body, number, max_tokens=limit, logprobs=body.logprobs, ignore_end=scoring)
    return AnswerRequest(
        model=body.model or "", sampling=sampling,
        prompt=choice.tokens, adapters=body.adapter_refs, client=client_of(request, body.user),
        schema=body.wanted_json, schema_field="json_schema", reuse=body.cache_prompt is not False,
        progress=body.wants_progress,
    )  # fmt: skip


async def _whole(
    answers: list[Answer], choices: list[_Choice], head: dict[str, Any], body: CompletionBody
) -> dict[str, Any]:
    async with aclosing(merged(answers)) as events:
        async for index, event in events:
            if isinstance(event, TextDelta):
                choices[index].text.append(event.text)
                choices[index].logprobs += event.logprobs
            elif isinstance(event, Finished):
                choices[index].end = event
    ends = [choice.end or _nothing(choice) for choice in choices]
    usage = usage_of(ends, len(choices) // (body.n or 1))
    rendered = [_render(index, choice, body) for index, choice in enumerate(choices)]
    return {**head, "choices": rendered, "usage": usage, "timings": timings_of(ends[0])}


def _render(index: int, choice: _Choice, body: CompletionBody) -> dict[str, Any]:
    logprobs = None
    if body.logprobs is not None:
        table = LogprobsTable()
        if body.echo:
            table.add(choice.scores, first_token=choice.tokens[0], first_text=_first_text(choice))
        table.add(choice.logprobs)
        logprobs = table.as_dict()
    reason = choice.end.reason if choice.end else "length"
    return {
        "index": index,
        "text": choice.echoed + "".join(choice.text),
        "logprobs": logprobs,
        "finish_reason": reason,
    }


async def _stream(
    answers: list[Answer], choices: list[_Choice], head: dict[str, Any], body: CompletionBody
) -> AsyncGenerator[dict[str, Any], None]:
    ends: list[Finished] = []
    tables, figures = [LogprobsTable() for _ in choices], [body.figures() for _ in choices]
    more: dict[str, Any] = {"usage": None} if body.wants_usage else {}

    def part(index: int, text: str, logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return {**head, "choices": [choice], **more}

    async with aclosing(merged(answers)) as events:
        for index, choice in enumerate(choices):
            if body.echo:
                tables[index].add(choice.scores, first_token=choice.tokens[0], first_text=_first_text(choice))
                yield part(index, choice.echoed, tables[index].take() if body.logprobs is not None else None)
        async for index, event in events:
            told = figures[index].add(event)
            if isinstance(event, Finished):
                ends.append(event)
                yield {**part(index, "", None, event.reason), "timings": timings_of(event)}
            elif isinstance(event, TextDelta):
                tables[index].add(event.logprobs)
                logprobs = tables[index].take() if body.logprobs is not None else None
                yield {**part(index, event.text, logprobs), **told}
            elif isinstance(event, PromptProgress) and body.return_progress:
                yield {**part(index, ""), **told}
    if body.wants_usage:
        yield {**head, "choices": [], "usage": usage_of(ends, len(choices) // (body.n or 1))}


def _first_text(choice: _Choice) -> str | None:
    """The text of a prompt's first token, which has no score that would tell it."""
    scored = b"".join(score.token_bytes for score in choice.scores if score is not None)
    rest = len(scored.decode("utf-8", "replace"))
    return choice.echoed[: len(choice.echoed) - rest] if choice.scores else None


def _nothing(choice: _Choice) -> Finished:
    return Finished("length", Usage(len(choice.tokens), 0, 0), 0.0, 0.0, 0)


OPERATIONS = (
    Operation("POST", "/v1/completions", completions, "Go on with a text.", CompletionBody,
              problem=openai_error_about("prompt"), streams="text/event-stream"),
)  # fmt: skip
