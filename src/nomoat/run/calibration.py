"""What speculation needs to know of a model on this machine, measured in quiet moments and kept between runs.

Until it is known, usual values serve; answering never waits for it. The memory must be empty meanwhile, which it is
from loading until the first request: cells that lie elsewhere would change the order of sums.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nomoat.run.context import Context, Part
from nomoat.run.curve_record import CurveRecord
from nomoat.run.drafts.cost_curve import CURVE_POINTS
from nomoat.run.drafts.verification import STEADY_PORTIONS, steady_tokens
from nomoat.run.kv_memory import KVMemory
from nomoat.run.machine_load import OtherLoad
from nomoat.run.speculation import Speculation

__all__ = ["Calibration"]

_ROUNDS = 3
_BEHIND, _ROWS = 32, 16  # tokens before, and those whose logits are compared
_BUSY_CORES = 0.2  # other programs used more than this many cores: the times say little of the machine
_SLOW_SECONDS = 0.05  # a decode that takes longer: a request must not wait for these measurements


class Calibration:
    """Measures how costs grow with the number of tokens, and how many tokens are evaluated alike to the bit."""

    def __init__(
        self, context: Context, memory: KVMemory, speculation: Speculation, record: CurveRecord
    ) -> None:
        self._context, self._memory, self._speculation, self._record = context, memory, speculation, record
        first = context.model.bos_token_id or 0
        self._tokens = [(first + 7919 * place) % context.model.n_vocab for place in range(_BEHIND + _ROWS)]
        self._steps = self._run()

    def advance(self) -> bool:
        """Measure a little; False when all is known, or when it cannot be measured any more."""
        return next(self._steps, False)

    def _run(self) -> Iterator[bool]:
        if self._speculation.curve.seconds(1) > _SLOW_SECONDS:
            return
        load, seconds, rows = OtherLoad(), dict.fromkeys(CURVE_POINTS, float("inf")), {}
        timings = _ROUNDS * len(CURVE_POINTS)
        for step in range(timings + len(STEADY_PORTIONS)):
            if self._memory.held_cells:
                return
            if step < timings:  # taking turns: a moment of other work hits not one count alone
                count = CURVE_POINTS[step % len(CURVE_POINTS)]
                seconds[count] = min(seconds[count], self._timed(count))
            else:
                portion = STEADY_PORTIONS[step - timings]
                rows[portion] = self._evaluated(portion)
            self._context.clear()
            yield True
        # llama.cpp builds its graph anew when the number of tokens changes: a draft costs that twice, there and back.
        costs = {n: seconds[n] - (seconds[1] if n > 1 else 0.0) for n in CURVE_POINTS}
        steady = steady_tokens(rows)
        self._speculation.learn(costs, steady)
        if load.cores() <= _BUSY_CORES:
            self._record.write(costs, steady)

    def _timed(self, count: int) -> float:
        """Seconds of one token between single tokens; of several, together with the single one behind them."""
        self._context.evaluate([Part(0, 0, self._tokens[:1], 1)])
        start = time.perf_counter()
        self._context.evaluate([Part(0, 1, self._tokens[:count], count)])
        if count > 1:
            self._context.evaluate([Part(0, 1 + count, self._tokens[:1], 1)])
        return time.perf_counter() - start

    def _evaluated(self, portion: int) -> NDArray[np.float32]:
        """Logits `(_ROWS, n_vocab)` of the same tokens behind the same text, in portions."""
        self._context.evaluate([Part(0, 0, self._tokens[:_BEHIND], 0)])
        rows = []
        for start in range(_BEHIND, _BEHIND + _ROWS, portion):
            tokens = self._tokens[start : min(start + portion, _BEHIND + _ROWS)]
            self._context.evaluate([Part(0, start, tokens, len(tokens))])
            rows.append(self._context.logits(len(tokens)).reshape(len(tokens), -1).copy())
        return np.concatenate(rows)
