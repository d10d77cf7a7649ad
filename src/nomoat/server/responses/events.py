"""Answers as clients of the Responses API expect them: one object, and the events that build it up."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from nomoat.run.protocol import TokenLogprob
from nomoat.server.responses.wire import CreateRequest

__all__ = ["ResponseEvents", "usage"]

Event = dict[str, Any]


def usage(
    input_tokens: int, cached_tokens: int, output_tokens: int, reasoning_tokens: int = 0
) -> dict[str, Any]:
    """Token counts."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


class ResponseEvents:
    """Turns an answer into events and keeps the whole in `response`."""

    def __init__(self, request: CreateRequest, model: str) -> None:
        self.response = _begun(request, model)
        self._count = 0
        self._open: dict[str, Any] | None = None

    def begin(self) -> list[Event]:
        """The events before the first token."""
        return [self._snapshot("response.created"), self._snapshot("response.in_progress")]

    def text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> list[Event]:
        """More text."""
        if not text and not logprobs:
            return []
        events = [] if self._is_open("message") else self._start_message()
        assert self._open is not None
        part, entries = self._open["content"][0], [_logprob(entry) for entry in logprobs]
        part["text"] += text
        part["logprobs"] += entries
        return [
            *events, self._event("response.output_text.delta", content_index=0, delta=text, logprobs=entries),
        ]  # fmt: skip

    def reasoning(self, text: str) -> list[Event]:
        """More of what the model thinks before it answers."""
        events = [] if self._is_open("reasoning") else self._start_reasoning()
        assert self._open is not None
        self._open["content"][0]["text"] += text
        return [*events, self._event("response.reasoning_text.delta", content_index=0, delta=text)]

    def tool(self, call_id: str, name: str) -> list[Event]:
        """A call of a function begins."""
        item = {"id": _new_id("fc"), "type": "function_call", "call_id": call_id, "name": name,
                "arguments": "", "status": "in_progress"}  # fmt: skip
        return self._start(item)

    def arguments(self, text: str) -> list[Event]:
        """More of the begun call's arguments, as JSON text."""
        if not text or self._open is None:
            return []
        self._open["arguments"] += text
        return [self._event("response.function_call_arguments.delta", delta=text)]

    def end(self, finish_reason: str, counts: dict[str, Any]) -> list[Event]:
        """The events after the last token."""
        status = "incomplete" if finish_reason == "length" else "completed"
        if not self._open and not self.response["output"]:
            # An answer without a token is still an answer.
            events = self._start_message()
        else:
            events = []
        events += self._stop(status)
        self.response |= {"status": status, "usage": counts, "completed_at": time.time()}
        if status == "incomplete":
            self.response |= {"incomplete_details": {"reason": "max_output_tokens"}, "completed_at": None}
        return [*events, self._snapshot(f"response.{status}")]

    def failed(self, message: str) -> list[Event]:
        """The last event of an answer that broke off."""
        self._stop("incomplete")
        self.response |= {"status": "failed", "error": {"code": "server_error", "message": message}}
        return [self._snapshot("response.failed")]

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _start_message(self) -> list[Event]:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = {
            "id": _new_id("msg"),
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        events = self._start(item)
        events.append(self._event("response.content_part.added", content_index=0, part=dict(part)))
        item["content"].append(part)  # type: ignore[attr-defined]
        return events

    def _start_reasoning(self) -> list[Event]:
        part = {"type": "reasoning_text", "text": ""}
        item: dict[str, Any] = {
            "id": _new_id("rs"), "type": "reasoning", "status": "in_progress", "summary": [], "content": [],
        }  # fmt: skip
        events = self._start(item)
        events.append(self._event("response.content_part.added", content_index=0, part=dict(part)))
        item["content"].append(part)
        return events

    def _start(self, item: dict[str, Any]) -> list[Event]:
        events = self._stop("completed")
        self._open = item
        shown = {**item, "content": []} if "content" in item else dict(item)
        event = {"type": "response.output_item.added", "output_index": self._index, "item": shown}
        return [*events, self._numbered(event)]

    def _stop(self, status: str) -> list[Event]:
        item, events = self._open, []
        if item is None:
            return []
        if item["type"] == "message":
            part = item["content"][0]
            text, logprobs = part["text"], part["logprobs"]
            events.append(
                self._event("response.output_text.done", content_index=0, text=text, logprobs=logprobs)
            )
            events.append(self._event("response.content_part.done", content_index=0, part=part))
        elif item["type"] == "reasoning":
            part = item["content"][0]
            events.append(self._event("response.reasoning_text.done", content_index=0, text=part["text"]))
            events.append(self._event("response.content_part.done", content_index=0, part=part))
        else:
            arguments = item["arguments"]
            events.append(self._event("response.function_call_arguments.done", arguments=arguments,
                                      name=item["name"]))  # fmt: skip
        item["status"] = status
        event = {"type": "response.output_item.done", "output_index": self._index, "item": dict(item)}
        events.append(self._numbered(event))
        self.response["output"].append(item)
        self._open = None
        return events

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _event(self, kind: str, **fields: Any) -> Event:
        assert self._open is not None
        return self._numbered(
            {"type": kind, "item_id": self._open["id"], "output_index": self._index, **fields}
        )

    def _snapshot(self, kind: str) -> Event:
        return self._numbered(
            {"type": kind, "response": {**self.response, "output": [*self.response["output"]]}}
        )

    def _numbered(self, event: Event) -> Event:
        self._count += 1
        return {**event, "sequence_number": self._count - 1}


def _begun(request: CreateRequest, model: str) -> dict[str, Any]:
    """The response object before its first token."""
    form = request.text.format if request.text else None
    shown: dict[str, Any] = {"type": form.type} if form else {"type": "text"}
    if form is not None and form.type == "json_schema":
        shown |= {"name": form.name or "", "schema": form.schema, "strict": form.strict}
    return {
        "id": _new_id("resp"), "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "background": False, "completed_at": None, "error": None, "incomplete_details": None,
        "instructions": request.instructions, "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {}, "model": model, "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id, "store": request.store is not False,
        "temperature": request.temperature, "top_p": request.top_p, "top_logprobs": request.top_logprobs or 0,
        "text": {"format": shown}, "tool_choice": _builtin(request.tool_choice) or "auto",
        "tools": _builtin(request.tools) or [], "truncation": "disabled", "usage": None, "user": request.user,
    }  # fmt: skip


def _builtin(value: Any) -> Any:
    """Structs as the dictionaries that were sent."""
    return msgspec.to_builtins(value)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    return {**_token(entry), "top_logprobs": [_token(other) for other in entry.top]}


def _token(entry: TokenLogprob) -> dict[str, Any]:
    data = entry.token_bytes
    return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": entry.logprob}
