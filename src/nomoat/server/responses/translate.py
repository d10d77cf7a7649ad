"""From requests of the Responses API to the conversation and sampling that every protocol here shares."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from nomoat.run.sampling import SamplingParams
from nomoat.server import tools
from nomoat.server.errors import BadRequest
from nomoat.server.responses.wire import CreateRequest, FunctionTool, NamedFunction

__all__ = [
    "check_supported",
    "conversation",
    "functions",
    "input_items",
    "json_schema",
    "sampling",
    "tool_choice",
]

Item = dict[str, Any]

_LOGPROBS = "message.output_text.logprobs"
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXT_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def check_supported(request: CreateRequest) -> None:
    """Raise `BadRequest` with the reason for what this server cannot do."""
    if request.truncation == "auto":
        raise BadRequest("truncation is not supported: nothing is cut off silently", "truncation",
                         "send the part of the conversation that matters")  # fmt: skip
    if not request.input:
        raise BadRequest("the input is empty", "input", "send text, or a list with at least one message")
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        raise BadRequest("tool_choice needs tools", "tool_choice")


def input_items(given: str | Sequence[Item]) -> list[Item]:
    """The request's input as items with ids, in the form in which they are kept."""
    if isinstance(given, str):
        given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [_identified(item, f"input[{index}]") for index, item in enumerate(given)]


def conversation(instructions: str | None, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Messages as an `AnswerRequest` takes them.

    System and developer messages at the beginning become one with the instructions; an assistant's text and the calls
    that follow it become one turn. Raises `BadRequest` for items that are not text or calls of functions.
    """
    turns: list[dict[str, Any]] = []
    if instructions:
        turns.append({"role": "system", "content": instructions})
    for index, item in enumerate(items):
        turn = _turn(item, f"input[{index}]")
        if turn is not None:
            _append(turns, turn)
    if not turns:
        raise BadRequest("the input is empty", "input", "send text, or a list with at least one message")
    return turns


def sampling(request: CreateRequest) -> SamplingParams:
    """Sampling options; what the request leaves open has nomoat's defaults."""
    given: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p}
    wants_logprobs = request.top_logprobs is not None or _LOGPROBS in (request.include or ())
    return SamplingParams(
        max_tokens=request.max_output_tokens,
        logprobs=(request.top_logprobs or 0) if wants_logprobs else None,
        **{name: value for name, value in given.items() if value is not None},
    )


def json_schema(request: CreateRequest) -> dict[str, Any] | bool | None:
    """The schema that the answer must fit, True for any JSON object, None where its form is free."""
    form = request.text.format if request.text else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return True
    if form.schema is None:
        raise BadRequest("text.format has no schema", "text", 'give the JSON schema under "schema"')
    return form.schema


def functions(given: Sequence[FunctionTool] | None) -> tuple[tools.Tool, ...]:
    """The tools as an `AnswerRequest` takes them."""
    return tuple(tools.Tool(tool.name, tool.description or "", tool.parameters) for tool in given or ())


def tool_choice(choice: str | NamedFunction | None, parallel: bool | None) -> tools.ToolChoice:
    """Which of them may or must be called."""
    if isinstance(choice, NamedFunction):
        return tools.ToolChoice("required", choice.name, parallel is not False)
    return tools.ToolChoice(choice or "auto", None, parallel is not False)


def _identified(item: Item, where: str) -> Item:
    kind = item.get("type", "message")
    if kind == "item_reference":
        raise BadRequest(f"{where}: references to items are not supported", "input",
                         "send the item itself, or previous_response_id")  # fmt: skip
    if not isinstance(kind, str):
        raise BadRequest(f"{where} has no type", "input", 'write {"type": "message", ...}')
    prefix = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}.get(kind, "item")
    known = item.get("id")
    identity = known if isinstance(known, str) and known else f"{prefix}_{secrets.token_hex(16)}"
    kept = {**item, "type": kind, "id": identity}
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        kept["content"] = [{"type": part, "text": item["content"]}]
    return kept


def _turn(item: Item, where: str) -> dict[str, Any] | None:
    match item.get("type"):
        case "message":
            role = _ROLES.get(_string(item, "role", where))
            if role is None:
                raise BadRequest(f"{where}: the role {item['role'][:50]!r} is unknown", "input",
                                 "use user, assistant, system or developer")  # fmt: skip
            return {"role": role, "content": _text(item.get("content"), where)}
        case "function_call":
            call = {"id": _string(item, "call_id", where), "name": _string(item, "name", where),
                    "arguments": _string(item, "arguments", where)}  # fmt: skip
            return {"role": "assistant", "content": "", "tool_calls": [call]}
        case "function_call_output":
            identity = _string(item, "call_id", where)
            return {"role": "tool", "tool_call_id": identity, "content": _text(item.get("output"), where)}
        case "reasoning":
            return None  # what another model thought: no model here reads it
        case kind:
            raise BadRequest(f"{where}: items of type {str(kind)[:50]!r} are not supported", "input",
                             "send messages, function_call and function_call_output")  # fmt: skip


def _append(turns: list[dict[str, Any]], turn: dict[str, Any]) -> None:
    last = turns[-1] if turns else None
    if last is None or last["role"] != turn["role"] or turn["role"] not in ("system", "assistant"):
        turns.append(turn)
        return
    last["content"] = "\n\n".join(text for text in (last["content"], turn["content"]) if text)
    if calls := turn.get("tool_calls"):
        last["tool_calls"] = [*last.get("tool_calls", []), *calls]


def _text(content: Any, where: str) -> str:
    """The text of a string or of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{where} has no text", "input", "write text, or a list of parts with text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS:
            raise BadRequest(f"{where}: parts of type {str(kind)[:50]!r} are not text, which is all there is", "input",
                             'write {"type": "input_text", "text": "..."}')  # fmt: skip
        texts.append(_string(part, _TEXT_PARTS[kind], where))
    return "\n\n".join(texts)


def _string(item: Item, key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{where} has no text under {key!r}", "input", f"give {key!r} as text")
    return value
