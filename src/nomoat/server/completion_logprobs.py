"""OpenAI's table of log-probabilities for completions: one column for each fact, one row for each token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from nomoat.run.protocol import TokenLogprob

__all__ = ["LogprobsTable", "token_text"]


def token_text(data: bytes) -> str:
    """A token's text; bytes that are no whole characters as OpenAI writes them: `bytes:\\xe2\\x82`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class LogprobsTable:
    """Columns `tokens`, `token_logprobs`, `top_logprobs` and `text_offset`, which grow with the answer."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0
        self._start()

    def add(
        self,
        entries: Sequence[TokenLogprob | None],
        first_token: int | None = None,
        first_text: str | None = None,
    ) -> None:
        """More tokens; None is the first token of a text, which nothing predicts, and whose text is `first_text`."""
        for entry in entries:
            self._offsets.append(self._offset)
            if entry is None:
                self._row(first_text or "", None, None)
                self._offset += len(first_text or "")
                continue
            top = {token_text(other.token_bytes): other.logprob for other in reversed(entry.top)}
            top.setdefault(token_text(entry.token_bytes), entry.logprob)
            self._row(token_text(entry.token_bytes), entry.logprob, top)
            self._offset += len(self._decoder.decode(entry.token_bytes))

    def as_dict(self) -> dict[str, Any]:
        """The whole table."""
        return {"tokens": self._tokens, "token_logprobs": self._logprobs, "top_logprobs": self._top,
                "text_offset": self._offsets}  # fmt: skip

    def take(self) -> dict[str, Any]:
        """The rows since the last `take`; offsets go on."""
        table = self.as_dict()
        self._start()
        return table

    def _start(self) -> None:
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._offsets: list[int] = []

    def _row(self, token: str, logprob: float | None, top: dict[str, float] | None) -> None:
        self._tokens.append(token)
        self._logprobs.append(logprob)
        self._top.append(top)
