"""Several decodes of one answer in a row, with nothing between two of them but what the next one needs.

A decode reads all weights, so the processor's caches are cold after it, and every Python object that is touched then
costs some misses. Keeping books for several tokens at once costs little more than for one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nomoat.run.context import Context
from nomoat.run.sequence import Sequence

__all__ = ["Burst"]

_MOST_SECONDS = 0.03  # so long a token waits for the others of its burst at most


class Burst:
    """Decodes the pending token of a sequence, and those that follow it, as long as nobody has to look at them.

    `seconds` are what the decodes took, `tokens` what was chosen between them.
    """

    def __init__(self, context: Context, sequence: Sequence) -> None:
        self._context, self._sequence = context, sequence
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def decode(self, interrupted: Callable[[], bool]) -> None:
        """Go on until `interrupted`: then the last logits are still to be looked at, unless the answer has ended.

        Raises what `Context.evaluate_one` does; what was decoded before that counts.
        """
        context, sequence, held = self._context, self._sequence, self._sequence.held
        assert held is not None
        token_id, position, left = sequence.tokens[-1], len(held.tokens), sequence.burst
        now = begun = time.monotonic()
        while True:
            start = now
            context.evaluate_one(token_id, position, held.sequence)
            now = time.monotonic()
            held.tokens.append(token_id)
            self.seconds.append(now - start)
            position, left = position + 1, left - 1
            if not left or now - begun > _MOST_SECONDS or interrupted():
                return
            token_id = sequence.choose(context, context.logits(1), 0)
            self.tokens.append(token_id)
            if sequence.ends_with(token_id):
                return
            now = time.monotonic()

    def hand_over(self) -> str | None:
        """Let the sequence take the tokens; why its answer ends with the last of them, if it does."""
        reason = None
        for token_id in self.tokens:
            reason = self._sequence.take(token_id)
        if self.tokens and reason is None and self._sequence.speculator is not None:
            self._sequence.speculator.accept(self.tokens)
        return reason
