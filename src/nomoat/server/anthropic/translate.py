"""From Anthropic's requests to the conversation, tools and sampling that every protocol here shares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nomoat.run.sampling import SamplingParams
from nomoat.server import tools
from nomoat.server.anthropic.wire import (
    AnyTool,
    ContentBlock,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    InputMessage,
    MessagesRequest,
    NamedTool,
    NoTool,
    TextBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from nomoat.server.errors import BadRequest

__all__ = [
    "check_supported",
    "conversation",
    "functions",
    "may_think",
    "must_think",
    "sampling",
    "tool_choice",
]

_BETWEEN_BLOCKS = "\n\n"
_THINKING = ("enabled", "adaptive", "disabled")


def check_supported(request: CountRequest) -> None:
    """Raise `BadRequest` with the reason for what this server cannot do."""
    if request.thinking is not None and request.thinking.type not in _THINKING:
        raise BadRequest(f"thinking of type {request.thinking.type[:50]!r} is not supported", "thinking",
                         f"use {', '.join(_THINKING)}")  # fmt: skip
    for tool in request.tools or ():
        if tool.type not in (None, "custom") or tool.input_schema is None:
            raise BadRequest(f"tool {tool.name[:50]!r} runs at Anthropic, not here",
                             "tools", "describe it with name, description and input_schema")  # fmt: skip
    if isinstance(request.tool_choice, AnyTool | NamedTool) and not request.tools:
        raise BadRequest("tool_choice needs tools", "tool_choice")


def conversation(system: str | list[TextBlock], messages: Sequence[InputMessage]) -> list[dict[str, Any]]:
    """Messages as an `AnswerRequest` takes them.

    Turns of the same role that follow each other become one, as at Anthropic. Raises `BadRequest` for
    pictures and documents.
    """
    turns: list[dict[str, Any]] = []
    if text := _text(system):
        turns.append({"role": "system", "content": text})
    for message in messages:
        for turn in _turns(message):
            _append(turns, turn)
    return turns


def functions(given: Sequence[Tool] | None) -> tuple[tools.Tool, ...]:
    """The tools as an `AnswerRequest` takes them."""
    return tuple(tools.Tool(tool.name, tool.description or "", tool.input_schema) for tool in given or ())


def tool_choice(choice: ToolChoice | None) -> tools.ToolChoice:
    """Which of them may or must be called."""
    if choice is None or isinstance(choice, NoTool):
        return tools.ToolChoice("auto" if choice is None else "none")
    parallel = not choice.disable_parallel_tool_use
    if isinstance(choice, NamedTool):
        return tools.ToolChoice("required", choice.name, parallel)
    return tools.ToolChoice("required" if isinstance(choice, AnyTool) else "auto", None, parallel)


def sampling(request: MessagesRequest) -> SamplingParams:
    """Sampling options; what the request leaves open has nomoat's defaults."""
    given = {name: getattr(request, name) for name in ("temperature", "top_p", "top_k")}
    return SamplingParams(
        max_tokens=request.max_tokens,
        stop=tuple(text for text in request.stop_sequences or () if text),
        **{name: value for name, value in given.items() if value is not None},
    )


def may_think(request: CountRequest) -> bool:
    """Whether the model thinks first, if it can; as at Anthropic that must be asked for."""
    return request.thinking is not None and request.thinking.type != "disabled"


def must_think(request: CountRequest) -> bool:
    """Whether a model that cannot think is the wrong one; with "adaptive" it is the model's choice."""
    return request.thinking is not None and request.thinking.type == "enabled"


def _turns(message: InputMessage) -> list[dict[str, Any]]:
    """The turns of one message: each tool's result is one of its own, before the text that follows it."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    turns = [_result(block) for block in message.content if isinstance(block, ToolResultBlock)]
    calls = [_call(block) for block in message.content if isinstance(block, ToolUseBlock)]
    _check_owner(message.role, turns, calls)
    text = _text(message.content)
    if text or calls or not turns:
        turn: dict[str, Any] = {"role": message.role, "content": text}
        turns.append({**turn, "tool_calls": calls} if calls else turn)
    return turns


def _check_owner(role: str, results: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    if results and role != "user":
        raise BadRequest(
            f"a tool_result block in a message of the {role}", "messages", "put it into a user's"
        )
    if calls and role != "assistant":
        raise BadRequest(
            f"a tool_use block in a message of the {role}", "messages", "put it into the assistant's"
        )


def _append(turns: list[dict[str, Any]], turn: dict[str, Any]) -> None:
    last = turns[-1] if turns else None
    if last is None or last["role"] != turn["role"] or turn["role"] == "tool":
        turns.append(turn)
        return
    last["content"] = _BETWEEN_BLOCKS.join(text for text in (last["content"], turn["content"]) if text)
    if calls := turn.get("tool_calls"):
        last["tool_calls"] = [*last.get("tool_calls", []), *calls]


def _call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    return {"id": block.id, "name": block.name, "arguments": arguments}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    text = _text(block.content)
    content = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _text(content: str | Sequence[ContentBlock]) -> str:
    if isinstance(content, str):
        return content
    for block in content:
        if isinstance(block, ImageBlock | DocumentBlock):
            kind = "pictures" if isinstance(block, ImageBlock) else "documents"
            raise BadRequest(f"{kind} are not supported: this server reads text", "messages",
                             "send the text that matters as a text block")  # fmt: skip
    return _BETWEEN_BLOCKS.join(block.text for block in content if isinstance(block, TextBlock))
