"""`POST /completion`, also called `/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import ContextOverflowError
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.answers import Answer, AnswerRequest
from nomoat.server.errors import HttpProblem, PromptTooLong, llama_server_error
from nomoat.server.fill_in import fill_in_tokens
from nomoat.server.llama_server.answers import Completion, Wanted
from nomoat.server.llama_server.lora import chosen_adapters
from nomoat.server.llama_server.prompts import prompts_of, tokens_of
from nomoat.server.llama_server.sampling import sampling_of, settings_of
from nomoat.server.llama_server.wire import CompletionRequest, InfillRequest, Prompts
from nomoat.server.models import Models
from nomoat.server.named_events import foreseen
from nomoat.server.openai_common import seed_of_choice
from nomoat.server.service import Service, service_of
from nomoat.server.several import begin_all, merged
from nomoat.server.wire import Operation, client_of, event_stream, json_response, while_connected

__all__ = ["OPERATIONS", "complete", "infill"]

_MOST_PROMPTS = 256
_encode = msgspec.json.Encoder().encode
Part = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """A request that is understood: what to ask the engine, and what to show of its answers."""

    requests: Sequence[AnswerRequest]
    prompts: Sequence[str]
    wanted: Wanted


async def complete(request: Request, body: CompletionRequest) -> Response:
    """Go on with each prompt, at once or as a stream. Several prompts have a list of answers."""
    service, client = service_of(request), client_of(request)
    job = await while_connected(
        request, to_thread.run_sync(_understood, service.models, body, body.prompt, client)
    )
    return await _answered(request, service, body, job)


async def infill(request: Request, body: InfillRequest) -> Response:
    """Write what belongs between two parts of a text, at once or as a stream."""
    service, client = service_of(request), client_of(request)
    work = to_thread.run_sync(_between, service.models, body, client)
    return await _answered(request, service, body, await while_connected(request, work))


async def _answered(request: Request, service: Service, body: CompletionRequest, job: _Job) -> Response:
    answers = await while_connected(request, _begun(service, job))
    completions = [
        Completion(index, prompt, answer, job.wanted)
        for index, (prompt, answer) in enumerate(zip(job.prompts, answers, strict=True))
    ]
    if body.stream:
        return event_stream(_events(_parts(completions)))
    whole = await while_connected(request, _whole(completions))
    return json_response(whole if len(whole) > 1 else whole[0])


def _between(models: Models, body: InfillRequest, client: str) -> _Job:
    engine = models.resolve(body.model or "").engine
    if engine.model.fill_in is None:
        raise HttpProblem("not_implemented", "this model was not trained to fill in the middle",
                          "use one that was, such as Qwen2.5-Coder")  # fmt: skip
    tokens = fill_in_tokens(
        engine, body.input_prefix + body.prompt, body.input_suffix, body.input_extra or (), "input_suffix"
    )
    return _understood(models, body, list(tokens), client)


def _understood(models: Models, body: CompletionRequest, given: Prompts, client: str) -> _Job:
    adapters = chosen_adapters(models, body.lora or ())
    engine = models.resolve(body.model or "", adapters).engine
    sampling = sampling_of(body, engine)
    one = AnswerRequest(
        model=body.model or "", sampling=sampling, adapters=adapters, schema=body.wanted_json, client=client,
        reuse=body.cache_prompt is not False, progress=body.wants_progress,
    )  # fmt: skip
    requests, prompts = [], []
    for prompt in prompts_of(given, "prompt", _MOST_PROMPTS):
        tokens = tokens_of(engine, prompt, "prompt")
        choices = body.n_cmpl or body.n or 1
        requests += [
            replace(
                one, prompt=tokens, sampling=replace(sampling, seed=seed_of_choice(sampling.seed, choice))
            )
            for choice in range(choices)
        ]
        prompts += [engine.detokenize(tokens)] * choices
    return _Job(requests, prompts, _wanted(body, sampling, engine))


def _wanted(body: CompletionRequest, sampling: SamplingParams, engine: Engine) -> Wanted:
    limit = -1 if body.limit is None else body.limit
    settings = {
        **settings_of(sampling), "max_tokens": limit, "n_predict": limit, "stop": sampling.stop,
        "stream": bool(body.stream), "grammar": body.grammar or "",
        "logit_bias": [{"token": token, "bias": bias} for token, bias in sampling.logit_bias],
        "lora": [{"id": each.id, "scale": each.scale} for each in body.lora or ()],
        "timings_per_token": bool(body.timings_per_token),
    }  # fmt: skip
    told = sampling.stop if sampling.logprobs is not None and not body.stream else ()
    return Wanted(
        settings, engine.model.context_length, bool(body.stream), bool(body.return_tokens), body.limit != 0,
        body.response_fields or (), {stop: len(engine.encode(stop)) for stop in told},
        bool(body.timings_per_token), bool(body.return_progress),
    )  # fmt: skip


async def _begun(service: Service, job: _Job) -> list[Answer]:
    try:
        return await begin_all(service.answers, job.requests)
    except ContextOverflowError as error:
        longest = max(len(request.prompt or ()) for request in job.requests)
        raise PromptTooLong(error.message, error.hint, longest, job.wanted.context_length) from error


async def _parts(completions: Sequence[Completion]) -> AsyncGenerator[tuple[int, Part], None]:
    """What comes of each completion, with its number; the last part of each says how it ended."""
    async with aclosing(merged([completion.answer for completion in completions])) as events:
        async for index, event in events:
            for part in completions[index].parts(event):
                yield index, part


async def _whole(completions: Sequence[Completion]) -> list[Part]:
    last: dict[int, Part] = {}
    async with aclosing(_parts(completions)) as parts:
        async for index, part in parts:
            last[index] = part
    return [last[index] for index in sorted(last)]


async def _events(parts: AsyncGenerator[tuple[int, Part], None]) -> AsyncIterator[bytes]:
    """Server-sent events, without a mark at the end; an error in the middle becomes the last one."""
    async with aclosing(parts):
        try:
            async for _, part in parts:
                yield b"data: " + _encode(part) + b"\n\n"
        except Exception as error:
            yield b"data: " + _encode(llama_server_error(foreseen(error))) + b"\n\n"


OPERATIONS = (
    *(
        Operation("POST", path, complete, "Go on with a text.", CompletionRequest, problem=llama_server_error,
                  streams="text/event-stream", answer=("object", "array"), tag="llama-server")
        for path in ("/completion", "/completions")
    ),
    Operation("POST", "/infill", infill, "Fill in the middle of a text.", InfillRequest, problem=llama_server_error,
              streams="text/event-stream", answer=("object", "array"), tag="llama-server"),
)  # fmt: skip
