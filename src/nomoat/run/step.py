"""One evaluation: which tokens of which sequences it holds, and what their logits come to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nomoat.run.context import Context, Part
from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.sequence import Sequence

__all__ = ["Share", "Step", "StepSizes"]

# While somebody reads, prompts are evaluated in portions that hold his next token back no longer than this.
_HOLD_BACK_SECONDS = 0.25
_LEAST_PORTION = 32


@dataclass
class Share:
    """What one sequence has in a step: `tokens` are evaluated, the last of them are the guesses `draft`."""

    sequence: Sequence
    tokens: list[int]
    draft: list[int]
    outputs: int
    row: int
    """The first of its `outputs` rows of logits."""

    def take(self, context: Context, logits: NDArray[np.float32]) -> tuple[int, str | None]:
        """Choose the next token, and further ones as long as the guesses were right.

        Returns how many guesses were right, and why the answer ends, if it does.
        """
        sequence, right, chosen = self.sequence, 0, []
        reason = None
        for row in range(self.row, self.row + self.outputs):
            chosen.append(sequence.choose(context, logits, row))
            reason = sequence.take(chosen[-1], logits[row])
            if reason is not None or right == len(self.draft) or self.draft[right] != chosen[-1]:
                break
            right += 1
        if reason is None:
            sequence.deliver()
            if sequence.speculator is not None:
                sequence.speculator.accept(chosen)
        return right, reason


@dataclass
class Step:
    """The shares of all sequences. `seconds` is how long the evaluation took."""

    shares: list[Share]
    n_tokens: int = 0
    """Tokens that it evaluates."""
    rows: int = 0
    """Rows of logits that come of it."""
    seconds: float = 0.0

    @property
    def only_decodes(self) -> bool:
        """Whether it evaluates no part of a prompt."""
        return self.n_tokens == self.rows

    def add(self, sequence: Sequence, tokens: list[int], outputs: int, draft: list[int]) -> None:
        """A share of `tokens`, of which the last want `outputs` rows, and the guesses behind them."""
        count, rows = len(tokens) + len(draft), outputs + len(draft)
        self.shares.append(Share(sequence, tokens + draft, draft, rows, self.rows))
        self.n_tokens += count
        self.rows += rows

    def evaluate(self, context: Context) -> None:
        """Do it. Raises `NoRoom`, `Aborted` or `EngineError`."""
        start = time.monotonic()
        first = self.shares[0]
        assert first.sequence.held is not None
        if self.n_tokens == self.rows == 1:
            context.evaluate_one(
                first.tokens[0], len(first.sequence.held.tokens), first.sequence.held.sequence
            )
        else:
            context.evaluate([_part(share) for share in self.shares])
        self.seconds = time.monotonic() - start


class StepSizes:
    """Composes steps, and learns from their times how much fits into one."""

    def __init__(self, most_tokens: int, most_rows: int, curve: CostCurve) -> None:
        """A step holds at most `most_tokens` tokens and `most_rows` rows of logits."""
        self._most_tokens, self._most_rows, self._curve = most_tokens, most_rows, curve
        self._prompt_rate = math.inf  # tokens per second

    def compose(self, sequences: Items[Sequence]) -> Step:
        """A token of each sequence that decodes, then as much of the prompts as fits, the shortest rest first."""
        step = Step([])
        decoding = [sequence for sequence in sequences if sequence.decodes]
        # Guesses leave a row to the end of a prompt.
        most_rows = self._most_rows - (len(decoding) < len(sequences))
        for place, sequence in enumerate(decoding):
            others = step.rows + len(decoding) - place - 1  # rows of the others, those to come without drafts
            draft = sequence.draft(most_rows - others - 1, others)
            step.add(sequence, sequence.next_tokens(1), 1, draft)
        room = self._portion(step)
        now = time.monotonic()
        for sequence in sorted((s for s in sequences if not s.decodes), key=lambda s: self._urgency(s, now)):
            tokens = sequence.next_tokens(room)
            outputs = int(len(tokens) == sequence.pending)
            if not tokens or step.rows + outputs > self._most_rows:
                continue
            step.add(sequence, tokens, outputs, [])
            room -= len(tokens)
        return step

    def observe(self, step: Step) -> float | None:
        """Learn from a step; where it only decoded, returns what one token alone would have taken now, seconds."""
        count = step.n_tokens
        if not step.only_decodes:
            if count >= _LEAST_PORTION:
                rate = count / max(step.seconds, 1e-9)
                old = rate if math.isinf(self._prompt_rate) else self._prompt_rate
                self._prompt_rate = old + 0.3 * (rate - old)
            return None
        self._curve.observe(count, step.seconds)
        return step.seconds / self._curve.relative(count)

    def _portion(self, step: Step) -> int:
        """Prompt tokens that may join the step."""
        room = self._most_tokens - step.n_tokens
        if not step.shares or math.isinf(self._prompt_rate):
            return room
        return min(room, max(_LEAST_PORTION, int(self._prompt_rate * _HOLD_BACK_SECONDS)))

    def _urgency(self, sequence: Sequence, now: float) -> float:
        """What is left of the prompt, less what could have been done while it waited: nobody waits for ever."""
        rate = 0.0 if math.isinf(self._prompt_rate) else self._prompt_rate
        return sequence.pending - rate * (now - sequence.arrived)


def _part(share: Share) -> Part:
    held = share.sequence.held
    assert held is not None
    return Part(held.sequence, len(held.tokens), share.tokens, share.outputs)
