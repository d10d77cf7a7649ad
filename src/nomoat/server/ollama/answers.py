"""Answers as Ollama's clients expect them: lines of JSON, the last with counts and durations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nomoat.run.protocol import TokenLogprob

__all__ = ["AnswerLines", "figures", "now", "tool_call"]

_NANOSECONDS = 1_000_000_000


def now() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def figures(
    *, total_seconds: float, load_seconds: float, prompt_tokens: int, prompt_seconds: float,
    completion_tokens: int, completion_seconds: float,
) -> dict[str, int]:  # fmt: skip
    """Counts and durations, in nanoseconds."""
    return {
        "total_duration": int(total_seconds * _NANOSECONDS),
        "load_duration": int(load_seconds * _NANOSECONDS),
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": int(prompt_seconds * _NANOSECONDS),
        "eval_count": completion_tokens,
        "eval_duration": int(completion_seconds * _NANOSECONDS),
    }


def tool_call(index: int, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A finished call; arguments that are no JSON object (the answer was cut off) are left empty."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = {}
    function = {"index": index, "name": name, "arguments": value if isinstance(value, dict) else {}}
    return {"id": call_id, "function": function}


class AnswerLines:
    """Makes the lines of one answer, in the form of `chat` or of `generate`."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model, self._chat = model, chat

    def part(
        self, text: str = "", calls: Sequence[dict[str, Any]] = (), logprobs: Sequence[TokenLogprob] = (),
        thinking: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """A piece of the answer, or of what the model thinks before it."""
        line = {**self._body(text, calls, thinking), "done": False}
        return {**line, "logprobs": [_logprob(entry) for entry in logprobs]} if logprobs else line

    def end(
        self, reason: str, counts: Mapping[str, int], context: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """The last line of a stream."""
        line = {**self._body("", ()), "done": True, "done_reason": reason, **counts}
        return line if context is None else {**line, "context": list(context)}

    def joined(self, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """All lines of a stream as the one of an answer that is not streamed."""
        messages = [line.get("message", {}) for line in lines]
        text = "".join(line.get("response", "") for line in lines)
        text += "".join(message.get("content", "") for message in messages)
        calls = [call for message in messages for call in message.get("tool_calls", ())]
        thinking = "".join(
            (line if "response" in line else line["message"]).get("thinking", "") for line in lines
        )
        logprobs = [entry for line in lines for entry in line.get("logprobs", ())]
        whole = {**lines[-1], **self._body(text, calls, thinking)}
        return {**whole, "logprobs": logprobs} if logprobs else whole

    def _body(self, text: str, calls: Sequence[dict[str, Any]], thinking: str = "") -> dict[str, Any]:
        line: dict[str, Any] = {"model": self._model, "created_at": now()}
        thought = {"thinking": thinking} if thinking else {}
        if not self._chat:
            return {**line, "response": text, **thought}
        message: dict[str, Any] = {"role": "assistant", "content": text, **thought}
        return {**line, "message": {**message, "tool_calls": list(calls)} if calls else message}


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    top = [_token(other.token_bytes, other.logprob) for other in entry.top]
    return {**_token(entry.token_bytes, entry.logprob), **({"top_logprobs": top} if top else {})}


def _token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(token)}
