"""Answers as Anthropic's clients expect them: one message, or the events that build it up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["MessageEvents", "stop_reason", "usage"]

Event = dict[str, Any]


def usage(input_tokens: int, cached_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Token counts. As at Anthropic, `input_tokens` are those that the cache did not hold."""
    return {
        "input_tokens": input_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": output_tokens,
    }


def stop_reason(finish_reason: str, stop: str) -> str:
    """Anthropic's word for why an answer ended; `stop` is the stop sequence that ended it, if one did."""
    if finish_reason == "stop" and stop:
        return "stop_sequence"
    return {"length": "max_tokens", "tool_calls": "tool_use"}.get(finish_reason, "end_turn")


class MessageEvents:
    """Turns an answer into events, block by block, and keeps the whole in `message`."""

    def __init__(self, message_id: str, model: str) -> None:
        self._content: list[dict[str, Any]] = []
        self.message: dict[str, Any] = {
            "id": message_id, "type": "message", "role": "assistant", "model": model, "content": self._content,
            "stop_reason": None, "stop_sequence": None, "usage": usage(0, 0, 0),
        }  # fmt: skip
        self._open: dict[str, Any] | None = None
        self._arguments: list[str] = []

    def begin(self, input_tokens: int = 0) -> list[Event]:
        """The events before the first token. What the cache held of the prompt, the last ones say."""
        start = {**self.message, "content": [], "usage": usage(input_tokens, 0, 0)}
        return [{"type": "message_start", "message": start}, {"type": "ping"}]

    def text(self, text: str) -> list[Event]:
        """More text."""
        if not text:
            return []
        events = [] if self._is_open("text") else self._start({"type": "text", "text": ""})
        assert self._open is not None
        self._open["text"] += text
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def thinking(self, text: str) -> list[Event]:
        """More of what the model thinks before it answers. Nothing here is signed."""
        block = {"type": "thinking", "thinking": "", "signature": ""}
        events = [] if self._is_open("thinking") else self._start(block)
        assert self._open is not None
        self._open["thinking"] += text
        return [*events, self._delta({"type": "thinking_delta", "thinking": text})]

    def tool(self, call_id: str, name: str) -> list[Event]:
        """A call of a tool begins."""
        return self._start({"type": "tool_use", "id": call_id, "name": name, "input": {}})

    def arguments(self, text: str) -> list[Event]:
        """More of the begun call's arguments, as JSON text."""
        self._arguments.append(text)
        return [self._delta({"type": "input_json_delta", "partial_json": text})] if text else []

    def end(self, finish_reason: str, stop: str, counts: Mapping[str, Any]) -> list[Event]:
        """The events after the last token."""
        reason = stop_reason(finish_reason, stop)
        delta = {"stop_reason": reason, "stop_sequence": stop if reason == "stop_sequence" else None}
        events = self._stop()
        self.message |= {**delta, "usage": dict(counts)}
        return [
            *events,
            {"type": "message_delta", "delta": delta, "usage": dict(counts)},
            {"type": "message_stop"},
        ]

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _start(self, block: dict[str, Any]) -> list[Event]:
        events = self._stop()
        self._open, self._arguments = dict(block), []
        return [
            *events, {"type": "content_block_start", "index": len(self._content), "content_block": block},
        ]  # fmt: skip

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": len(self._content), "delta": delta}

    def _stop(self) -> list[Event]:
        if self._open is None:
            return []
        if self._is_open("tool_use"):
            self._open["input"] = _object("".join(self._arguments))
        self._content.append(self._open)
        self._open = None
        return [{"type": "content_block_stop", "index": len(self._content) - 1}]


def _object(arguments: str) -> dict[str, Any]:
    """The arguments' JSON object; an answer that was cut off by `max_tokens` has none yet."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
