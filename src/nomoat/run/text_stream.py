"""Bytes of tokens to text that may be shown at once: no half characters, no half stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["TextStream"]


class TextStream:
    """Joins token bytes to text and ends it at the first stop string, which is never shown.

    Text is held back while its last bytes are an unfinished character, or while its end may be the start of a
    stop string. The pieces together are the same text however the bytes were cut.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = [text for text in stop if text]
        self._beginnings = {text[0] for text in self._stop}
        self._longest_stop = max(map(len, self._stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        self.matched = ""
        """The stop string that ended the text."""

    @property
    def may_stop(self) -> bool:
        """Whether a stop string may end the text."""
        return bool(self._stop)

    def push(self, data: bytes) -> str:
        """Add the bytes of one or more tokens; return what may be shown now. After a stop string, nothing."""
        return "" if self.stopped else self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """No more tokens will come: return what was held back, unless a stop string ended the text."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        held = self._held + text
        ends = [(place, stop) for stop in self._stop if (place := held.find(stop)) >= 0]
        if ends:
            end, self.matched = min(ends)
            self.stopped, self._held = True, ""
            return held[:end]
        keep = self._possible_start(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _possible_start(self, held: str) -> int:
        """Length of the longest end of `held` with which a stop string begins."""
        longest = min(len(held), self._longest_stop - 1)
        for length in range(longest, 0, -1):
            start = len(held) - length
            if held[start] in self._beginnings:  # nearly always no, and this runs for every token
                end = held[start:]
                if any(stop.startswith(end) for stop in self._stop):
                    return length
        return 0
