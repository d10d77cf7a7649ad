"""From Ollama's requests to the conversation, tools and sampling that every protocol here shares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.formats.chat_template import ChatTemplate, Message
from nomoat.run.sampling import ALL_TOKENS, SamplingParams
from nomoat.server import tools
from nomoat.server.errors import BadRequest
from nomoat.server.ollama.wire import ChatRequest, GenerateRequest, InputMessage, Options, Tool, ToolCall

__all__ = [
    "check_supported",
    "continued_turn",
    "conversation",
    "functions",
    "json_schema",
    "kept_for_no_time",
    "model_name",
    "sampling",
]

_LATEST = ":latest"
_MOST_SEED = 2**32 - 2
_OPTION_NAMES = (
    "temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


def kept_for_no_time(keep_alive: float | str | None) -> bool:
    """Whether a time to keep the model is 0, as a number of seconds or as text with a unit, such as "0m"."""
    text = str(keep_alive).strip().rstrip("hmsnuµ")
    return bool(text) and set(text) <= set("0.")


def model_name(name: str) -> str:
    """A model's name without the tag that Ollama adds to every name."""
    return name.removesuffix(_LATEST)


def check_supported(request: ChatRequest | GenerateRequest) -> None:
    """Raise `BadRequest` with the reason for what this server cannot do."""
    if isinstance(request, GenerateRequest):
        _refuse_images(request.images)
        if request.template:
            raise BadRequest("a template in the request is not supported: the model's own is used", "template",
                             'leave "template" out, or write the whole prompt and set "raw"')  # fmt: skip
        if request.raw and (request.system or request.context or request.suffix):
            raise BadRequest("a raw prompt has no room for system, context or suffix", "raw",
                             "write them into the prompt")  # fmt: skip
    options = request.options or Options()
    if options.mirostat or options.tfs_z not in (None, 1.0) or options.typical_p not in (None, 1.0):
        raise BadRequest("mirostat, tfs_z and typical_p are not supported", "options", "use top_p or min_p")


def conversation(messages: Sequence[InputMessage]) -> list[dict[str, Any]]:
    """Messages as an `AnswerRequest` takes them.

    Ollama's calls have no ids: they are numbered in order, and so are their results.
    """
    turns: list[dict[str, Any]] = []
    calls = results = 0
    for message in messages:
        _refuse_images(message.images)
        turn: dict[str, Any] = {"role": message.role, "content": message.content or ""}
        if message.tool_calls:
            turn["tool_calls"] = [_call(call, calls + i) for i, call in enumerate(message.tool_calls)]
            calls += len(message.tool_calls)
        if message.role == "tool":
            turn["tool_call_id"] = message.tool_call_id or f"call_{results}"
            if message.tool_name:
                turn["name"] = message.tool_name
            results += 1
        turns.append(turn)
    return turns


def json_schema(form: dict[str, Any] | str | None) -> dict[str, Any] | bool | None:
    """The schema that the answer must fit: True (any object) for "json", None where the form is free."""
    if form in (None, ""):
        return None
    if isinstance(form, dict):
        return form
    if form != "json":
        raise BadRequest(f"format {form!r} is unknown", "format", 'use "json" or a JSON schema')
    return True


def sampling(options: Options | None, logprobs: bool | None, top_logprobs: int | None) -> SamplingParams:
    """Sampling options; what the request leaves open has nomoat's defaults.

    As in Ollama, `num_predict` below 1 means no limit, a negative `seed` draws one, and a negative
    `repeat_last_n` looks at everything.
    """
    options = options or Options()
    chosen: dict[str, Any] = {
        name: value for name in _OPTION_NAMES if (value := getattr(options, name)) is not None
    }
    if options.top_k is not None:
        chosen["top_k"] = max(options.top_k, 0)
    if options.repeat_last_n is not None:
        chosen["repeat_last_n"] = options.repeat_last_n if options.repeat_last_n >= 0 else ALL_TOKENS
    if options.num_predict is not None and options.num_predict > 0:
        chosen["max_tokens"] = options.num_predict
    if options.seed is not None and options.seed >= 0:
        chosen["seed"] = min(options.seed, _MOST_SEED)
    stop = [options.stop] if isinstance(options.stop, str) else options.stop or ()
    return SamplingParams(
        stop=tuple(text for text in stop if text),
        logprobs=(top_logprobs or 0) if logprobs else None,
        **chosen,
    )


def continued_turn(
    template: ChatTemplate, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
) -> str:
    """What follows an assistant's answer in a conversation: its end, `messages`, and the next answer's start.

    Ollama's `context` is the tokens of the conversation so far, so this is what must be appended to them.
    """
    mark = "\N{OBJECT REPLACEMENT CHARACTER}answer\N{OBJECT REPLACEMENT CHARACTER}"
    before = [{"role": "user", "content": "."}, {"role": "assistant", "content": mark}]
    return template.render([*before, *messages], True, variables).partition(mark)[2]


def functions(given: Sequence[Tool] | None) -> tuple[tools.Tool, ...]:
    """The tools as an `AnswerRequest` takes them."""
    return tuple(
        tools.Tool(tool.function.name, tool.function.description or "", tool.function.parameters)
        for tool in given or ()
    )


def _call(call: ToolCall, number: int) -> dict[str, Any]:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call.id or f"call_{number}", "name": call.function.name, "arguments": text}


def _refuse_images(images: list[Any] | None) -> None:
    if images:
        raise BadRequest("pictures are not supported: this server reads text", "images", "leave them out")
