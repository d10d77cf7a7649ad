"""How long an answer takes, under llama-server's names: at its end, and while a stream goes on."""

from __future__ import annotations

import time
from typing import Any

from nomoat.run.protocol import PromptProgress
from nomoat.server.answer_events import Event, Finished, TextDelta, Usage

__all__ = ["StreamFigures", "timings", "timings_of"]


def timings_of(end: Finished) -> dict[str, Any]:
    """The figures of a whole answer."""
    return timings(end.usage, end.prompt_seconds, end.decode_seconds)


def timings(usage: Usage, prompt_seconds: float, decode_seconds: float) -> dict[str, Any]:
    """What was computed and how long it took; `restored_n` of the cached tokens came from the disk."""
    return {
        "cache_n": usage.cached, "restored_n": usage.restored,
        **_speed("prompt", usage.prompt - usage.cached, usage.prompt - usage.cached, prompt_seconds),
        **_speed("predicted", usage.completion, usage.decoded, decode_seconds),
        "draft_n": usage.drafted, "draft_n_accepted": usage.accepted,
    }  # fmt: skip


def _speed(kind: str, count: int, timed: int, seconds: float) -> dict[str, float]:
    """The speed of the `timed` tokens that took `seconds`, and how many there are in all."""
    return {
        f"{kind}_n": count, f"{kind}_ms": seconds * 1e3,
        f"{kind}_per_token_ms": seconds * 1e3 / timed if timed else 0.0,
        f"{kind}_per_second": timed / seconds if seconds > 0 else 0.0,
    }  # fmt: skip


class StreamFigures:
    """What the events of one answer's stream tell of it beside its text, as far as the client wants that.

    How many tokens were guessed ahead is only known at the end.
    """

    def __init__(self, *, with_timings: bool, with_progress: bool) -> None:
        self._with_timings, self._with_progress = with_timings, with_progress
        self._read = PromptProgress(0, 0, 0, 0, 0, 0.0)
        self._read_at = time.monotonic()
        self._made = 0

    def add(self, event: Event) -> dict[str, Any]:
        """Take in what has come; returns `timings` and `prompt_progress`, or less."""
        told: dict[str, Any] = {}
        if isinstance(event, PromptProgress):
            self._read, self._read_at = event, time.monotonic()
            if self._with_progress:
                told["prompt_progress"] = _progress(event)
        elif isinstance(event, TextDelta):
            self._made += len(event.token_ids)
        return told | {"timings": self._timings()} if self._with_timings else told

    def _timings(self) -> dict[str, Any]:
        read = self._read
        decoded = max(0, self._made - 1)
        usage = Usage(read.read, read.cached, self._made, read.restored, decoded=decoded)
        figures = timings(usage, read.seconds, time.monotonic() - self._read_at if self._made else 0.0)
        return {name: value for name, value in figures.items() if not name.startswith("draft_")}


def _progress(event: PromptProgress) -> dict[str, int]:
    return {
        "total": event.total, "cache": event.cached, "processed": event.read, "time_ms": int(event.seconds * 1e3),
    }  # fmt: skip
