"""Rows: what a dataset file holds, one JSON object per line. Knows nothing of files, tokens or models."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

__all__ = ["ROLES", "Message", "Question", "Row", "document_id", "row_from_json", "row_to_json"]

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is one of `ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to learn from: either prose (`text`) or a chat (`messages`), never both.

    `source` is the file's path relative to the folder and `line` the line in a file of many; `document_id` is
    a digest of place and content, `group` what the split keeps on one side. `value` and `topic` come only
    with chats that say themselves which value makes an answer right (see `nomoat.measure.exact_match`).
    """

    source: str
    document_id: str
    group: str
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    value: str | None = None
    topic: str | None = None
    line: int | None = None

    @property
    def kind(self) -> str:
        """`text` or `chat`."""
        return "text" if self.messages is None else "chat"

    @property
    def n_characters(self) -> int:
        """Characters of the text, or of all turns together."""
        return len(self.text or "") + sum(len(message.content) for message in self.messages or ())


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out question and the value that makes an answer right.

    Questions of one `topic` are about the same thing (which tea, for each person), so another question's
    value in an answer is a wrong one. `system` is the system message to ask with; None sends none.
    """

    question: str
    value: str
    topic: str = ""
    source: str = ""
    system: str | None = None


def document_id(source: str, place: str, content: str) -> str:
    """16 hex digits that name one document: its file, its place in it and its content."""
    return hashlib.blake2b(f"{source}\0{place}\0{content}".encode(), digest_size=8).hexdigest()


def row_to_json(row: Row) -> dict[str, Any]:
    """The row as one line of a dataset file; absent parts are left out."""
    content: dict[str, Any] = {"id": row.document_id, "group": row.group, "source": row.source}
    if row.messages is None:
        content["text"] = row.text
    else:
        content["messages"] = [{"role": m.role, "content": m.content} for m in row.messages]
    optional = {"value": row.value, "topic": row.topic, "line": row.line}
    return content | {name: value for name, value in optional.items() if value is not None}


def row_from_json(content: dict[str, Any]) -> Row:
    """The reverse of `row_to_json`. Raises KeyError or TypeError where the line is not a row."""
    messages = content.get("messages")
    return Row(
        source=content["source"],
        document_id=content["id"],
        group=content["group"],
        text=content["text"] if messages is None else None,
        messages=None if messages is None else tuple(Message(m["role"], m["content"]) for m in messages),
        value=content.get("value"),
        topic=content.get("topic"),
        line=content.get("line"),
    )
