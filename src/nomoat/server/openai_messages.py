"""OpenAI's messages, tools and response formats as structs, and as what `AnswerRequest` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nomoat.formats.chat_template import RESERVED_VARIABLES
from nomoat.server.errors import BadRequest
from nomoat.server.reasoning import effort_variables
from nomoat.server.tools import Tool, ToolChoice

__all__ = [
    "FunctionBody",
    "FunctionCall",
    "FunctionName",
    "MessageBody",
    "NamedTool",
    "Part",
    "ResponseFormat",
    "SchemaBody",
    "ToolBody",
    "ToolCallBody",
    "plain_messages",
    "schema_of",
    "template_variables",
    "tool_choice_of",
    "tools_of",
]


class Part(msgspec.Struct):
    """A part of a message; only text is understood."""

    type: str
    text: str | None = None


class FunctionCall(msgspec.Struct):
    """A call that the assistant made earlier; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class ToolCallBody(msgspec.Struct):
    """A call with the name under which its result comes back."""

    function: FunctionCall
    id: str = ""
    type: str = "function"


class MessageBody(msgspec.Struct):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None


class FunctionBody(msgspec.Struct):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolBody(msgspec.Struct):
    """A tool; functions are the only kind."""

    function: FunctionBody
    type: Literal["function"] = "function"


class FunctionName(msgspec.Struct):
    """A function by name."""

    name: str


class NamedTool(msgspec.Struct):
    """The one tool that must be called."""

    function: FunctionName
    type: Literal["function"] = "function"


class SchemaBody(msgspec.Struct):
    """A named JSON schema."""

    schema: dict[str, Any] | None = None
    name: str = ""


class ResponseFormat(msgspec.Struct):
    """The form of the answer. llama-server and others take a `schema` without OpenAI's wrapping, for both types."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None
    schema: dict[str, Any] | None = None


def plain_messages(messages: Sequence[MessageBody]) -> list[dict[str, Any]]:
    """Messages as `AnswerRequest` takes them. Raises `BadRequest` for what is not text."""
    plain = []
    for index, message in enumerate(messages):
        calls = [
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in message.tool_calls or ()
        ]
        plain.append({"role": message.role, "content": _text(message.content, index), "tool_calls": calls,
                      "tool_call_id": message.tool_call_id})  # fmt: skip
    return plain


def tool_choice_of(choice: str | NamedTool | None, parallel: bool | None) -> ToolChoice:
    """OpenAI's `tool_choice` and `parallel_tool_calls`."""
    if isinstance(choice, NamedTool):
        return ToolChoice("required", choice.function.name, parallel is not False)
    return ToolChoice(choice or "auto", None, parallel is not False)


def tools_of(bodies: Sequence[ToolBody]) -> tuple[Tool, ...]:
    """Tools without OpenAI's wrapping."""
    functions = (body.function for body in bodies)
    return tuple(Tool(each.name, each.description or "", each.parameters) for each in functions)


def template_variables(given: dict[str, Any] | None, effort: str | None = None) -> dict[str, Any]:
    """Switches for the model's chat template: llama-server's and vLLM's `chat_template_kwargs`, OpenAI's effort."""
    taken = sorted(RESERVED_VARIABLES.intersection(given or ()))
    if taken:
        raise BadRequest(
            f"{taken[0]!r} comes from the request itself", "chat_template_kwargs", "leave it out"
        )
    return {**effort_variables(effort), **(given or {})}


def _text(content: str | list[Part] | None, index: int) -> str:
    if not isinstance(content, list):
        return content or ""
    for part in content:
        if part.type not in ("text", "input_text", "output_text", "refusal") or part.text is None:
            raise BadRequest(
                f"message {index} has a part of type {part.type!r}; only text is supported", "messages"
            )
    return "".join(part.text or "" for part in content)


def schema_of(form: ResponseFormat | None) -> dict[str, Any] | bool | None:
    """The JSON schema that an answer must obey, True for any JSON object."""
    if form is None or form.type == "text":
        return None
    wrapped = form.json_schema
    if wrapped is None and form.schema is None and form.type == "json_schema":
        raise BadRequest("response_format has no json_schema", "response_format",
                         'send {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}')  # fmt: skip
    given = form.schema if wrapped is None or form.type == "json_object" else wrapped.schema
    return given or True
