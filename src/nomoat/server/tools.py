"""Tools in Hermes' words: described in the system prompt, called as `<tool_call>{...}</tool_call>`.

Hermes, Qwen and many small models were trained on this form; where a tool must be called, a grammar enforces it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.base.errors import InputError
from nomoat.formats.chat_template import Message
from nomoat.formats.json_grammar import JsonGrammar, literal
from nomoat.server.errors import BadRequest

__all__ = ["CALL_END", "CALL_START", "Tool", "ToolChoice", "answer_grammar", "with_tools"]

CALL_START, CALL_END = "<tool_call>", "</tool_call>"
_MOST_CALLS = 8
_INTRODUCTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
%s
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is "auto", "none" or "required"; `name` narrows "required" to one tool."""

    mode: str = "auto"
    name: str | None = None
    parallel: bool = True


def answer_grammar(
    tools: Sequence[Tool], choice: ToolChoice, schema: Mapping[str, Any] | None = None,
    schema_field: str = "response_format",
) -> str | None:  # fmt: skip
    """What an answer must look like; None where it is free.

    Calls are enforced where one is required. With a `schema`, text is JSON that obeys it; a model that may call tools
    can do that instead. Raises `BadRequest` where the required tool does not exist or no grammar can say a schema; it
    blames `schema_field` for `schema`.
    """
    if choice.mode != "required" and schema is None:
        return None
    grammar = JsonGrammar(schema or {})
    if choice.mode == "required":
        return grammar.text(_calls(grammar, _required(tools, choice), choice))
    assert schema is not None
    with _blaming(schema_field):
        answer = grammar.rule(schema)
    if tools and choice.mode == "auto":
        answer = grammar.add(f"{answer} | {_calls(grammar, tools, choice)}")
    return grammar.text(answer)


@contextlib.contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Say of what cannot be used inside in which field of the request it was."""
    try:
        yield
    except InputError as error:
        raise BadRequest(error.message, field, error.hint) from error


def _required(tools: Sequence[Tool], choice: ToolChoice) -> Sequence[Tool]:
    wanted = [tool for tool in tools if choice.name is None or tool.name == choice.name]
    if not wanted:
        known = ", ".join(tool.name for tool in tools) or "none"
        missing = (
            f"no tool is named {choice.name!r}" if choice.name else "a tool is required, but there is none"
        )
        raise BadRequest(missing, "tool_choice", f"the request has: {known}")
    return wanted


def _calls(grammar: JsonGrammar, tools: Sequence[Tool], choice: ToolChoice) -> str:
    """The rule for one call or several, whose arguments obey their schemas."""
    calls = []
    for tool in tools:
        parameters = tool.parameters or {"type": "object", "properties": {}}
        with _blaming("tools"):
            grammar.enter(parameters)
            arguments = grammar.rule(parameters)
        start = f'{CALL_START}\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        end = "}\n" + CALL_END
        calls.append(grammar.add(f"{literal(start)} {arguments} {literal(end)}"))
    call = grammar.add(" | ".join(calls))
    more = choice.parallel and choice.name is None
    return grammar.add(f'{call} ("\\n" {call}){{0,{_MOST_CALLS - 1}}}') if more else call


def with_tools(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
) -> list[Message]:
    """The conversation in plain messages, with tools, calls and their results written into the text."""
    plain: list[Message] = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "tool":
            role, content = "user", f"<tool_response>\n{content}\n</tool_response>"
        elif role == "developer":
            role = "system"
        last = plain[-1] if plain else {"role": "", "content": ""}
        if role == last["role"] == "user" and last["content"].endswith("</tool_response>"):
            last["content"] += "\n" + content  # many templates want roles to alternate
            continue
        for call in message.get("tool_calls") or ():
            content += f"{chr(10) if content else ''}{CALL_START}\n{_call(call)}\n{CALL_END}"
        plain.append({"role": role, "content": content})
    if tools and choice.mode != "none":
        introduction = _INTRODUCTION % "\n".join(_signature(tool) for tool in tools)
        if plain and plain[0]["role"] == "system":
            plain[0]["content"] += "\n\n" + introduction
        else:
            plain.insert(0, {"role": "system", "content": introduction})
    return plain


def _call(call: Mapping[str, Any]) -> str:
    name = json.dumps(call["name"], ensure_ascii=False)
    return f'{{"name": {name}, "arguments": {call.get("arguments") or "{}"}}}'


def _signature(tool: Tool) -> str:
    function = {"name": tool.name, "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}}}  # fmt: skip
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)
