"""One JSON record to one document: alpaca, ShareGPT, `messages`, prompt/completion and plain `text`.

A record is recognised by its keys alone. Knows nothing of files: problems are ValueErrors with words that
make sense after "file: line".
"""

from __future__ import annotations

from typing import Any

from nomoat.tune.rows import ROLES, Message

__all__ = ["EmptyRecordError", "UnknownShapeError", "is_known_shape", "record_messages"]

_ROLES = {role: role for role in ROLES} | {"model": "assistant", "bot": "assistant", "developer": "system"}
_SHAREGPT_ROLES = _ROLES | {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
KNOWN_SHAPES = (
    '{"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]}, {"prompt", "completion"}, '
    '{"instruction", "input", "output"}, {"question", "answer"}, {"text"}'
)


class UnknownShapeError(ValueError):
    """The record is valid JSON of none of the known shapes."""


class EmptyRecordError(ValueError):
    """The record has nothing to learn from: an empty reply, question or text."""


def is_known_shape(record: Any) -> bool:
    """Whether the keys of `record` are those of a known shape, whatever they hold."""
    return isinstance(record, dict) and _reader_of(record) is not None


def record_messages(record: Any) -> str | tuple[Message, ...]:
    """The text or the turns of a record.

    Raises UnknownShapeError, EmptyRecordError, or ValueError where a known shape holds something wrong.
    """
    if not isinstance(record, dict):
        raise UnknownShapeError(f"a JSON {_json_type(record)} instead of an object such as {KNOWN_SHAPES}")
    reader = _reader_of(record)
    if reader is None:
        keys = ", ".join(sorted(record)[:8]).encode(errors="backslashreplace").decode() or "none"
        raise UnknownShapeError(f"unknown shape (keys: {keys}); known are {KNOWN_SHAPES}")
    content = reader(record)
    if isinstance(content, str):
        if not content.strip():
            raise EmptyRecordError("empty text")
        return content
    return _checked(content)


def _reader_of(record: dict[str, Any]) -> Any:
    for keys, reader in _READERS:
        if all(key in record for key in keys):
            return reader
    return None


def _messages(record: dict[str, Any]) -> list[Message]:
    return _turns(record["messages"], "messages", "role", "content", _ROLES)


def _sharegpt(record: dict[str, Any]) -> list[Message]:
    conversation = record["conversations"]
    if isinstance(conversation, list) and conversation and "role" in _first_keys(conversation):
        turns = _turns(conversation, "conversations", "role", "content", _ROLES)
    else:
        turns = _turns(conversation, "conversations", "from", "value", _SHAREGPT_ROLES)
    return _system(record) + turns


def _prompt_completion(record: dict[str, Any]) -> list[Message]:
    return [*_system(record), *_side(record, "prompt", "user"), *_side(record, "completion", "assistant")]


def _question_answer(record: dict[str, Any]) -> list[Message]:
    return [*_system(record), *_side(record, "question", "user"), *_side(record, "answer", "assistant")]


def _side(record: dict[str, Any], name: str, role: str) -> list[Message]:
    """One side of a pair: a string is one turn (a completion often begins with a space), a list is turns."""
    if isinstance(record[name], list):
        return _turns(record[name], name, "role", "content", _ROLES)
    return [Message(role, _text(record[name], name).strip())]


def _alpaca(record: dict[str, Any]) -> list[Message]:
    instruction, more = _text(record["instruction"], "instruction"), _text(record.get("input") or "", "input")
    asked = f"{instruction}\n\n{more}" if more.strip() else instruction
    past: list[Message] = []
    history = record.get("history") or []
    if not isinstance(history, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in history):
        raise ValueError('"history" must be a list of [question, answer] pairs')
    for pair in history:
        past += [Message("user", _text(pair[0], "history")), Message("assistant", _text(pair[1], "history"))]
    reply = Message("assistant", _text(record["output"], "output"))
    return [*_system(record), *past, Message("user", asked), reply]


def _prose(record: dict[str, Any]) -> str:
    return _text(record["text"], "text")


# The first whose keys are all there is taken.
_READERS = (
    (("messages",), _messages),
    (("conversations",), _sharegpt),
    (("prompt", "completion"), _prompt_completion),
    (("instruction", "output"), _alpaca),
    (("question", "answer"), _question_answer),
    (("text",), _prose),
)


def _system(record: dict[str, Any]) -> list[Message]:
    system = record.get("system")
    return [Message("system", _text(system, "system"))] if isinstance(system, str) and system.strip() else []


def _turns(turns: Any, name: str, role_key: str, content_key: str, roles: dict[str, str]) -> list[Message]:
    if not isinstance(turns, list):
        raise ValueError(f'"{name}" is a JSON {_json_type(turns)}, not a list of turns')
    messages = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or role_key not in turn:
            raise ValueError(f'"{name}" turn {number} has no "{role_key}"')
        role = roles.get(str(turn[role_key]).lower())
        if role is None:
            raise ValueError(
                f'"{name}" turn {number} has the role {turn[role_key]!r}; known are {", ".join(roles)}'
            )
        messages.append(Message(role, _text(turn.get(content_key), f"{name} turn {number} {content_key}")))
    return messages


def _text(value: Any, name: str) -> str:
    """A string, or the joined text parts of OpenAI's list form."""
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in value
    ):
        value = "".join(_text(part.get("text"), name) for part in value)
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is a JSON {_json_type(value)}, not text')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'"{name}" holds half of a surrogate pair at character {error.start}') from error
    return value


def _checked(messages: list[Message]) -> tuple[Message, ...]:
    if any(message.role == "system" for message in messages[1:]):
        raise ValueError("a system message after the first turn")
    turns = [message for message in messages if message.role != "system"]
    while turns and turns[-1].role != "assistant":  # what nobody answered teaches nothing
        turns.pop()
    if not turns:
        raise EmptyRecordError("no reply to learn from")
    if any(not message.content.strip() for message in turns):
        raise EmptyRecordError("an empty turn")
    system = [message for message in messages[:1] if message.role == "system" and message.content.strip()]
    return (*system, *map(_as_generated, turns))


def _as_generated(message: Message) -> Message:
    """A reply without white space at its edges: a model starts behind the prompt's own, in other tokens."""
    return Message(message.role, message.content.strip()) if message.role == "assistant" else message


def _first_keys(turns: list[Any]) -> set[str]:
    return set(turns[0]) if isinstance(turns[0], dict) else set()


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
