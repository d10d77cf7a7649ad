"""What speculation needs to know of a model on this machine, measured in quiet moments and kept between runs.

Until it is known, usual values serve; answering never waits for it. The memory must be empty meanwhile, which it is
from loading until the first request: cells that lie elsewhere would change the order of sums.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from nomoat.run.context import Context, Part
from nomoat.run.curve_record import CurveRecord
from nomoat.run.drafts.cost_curve import CURVE_POINTS
from nomoat.run.drafts.verification import STEADY_PORTIONS, steady_tokens
from nomoat.run.kv.memory import KVMemory
from nomoat.run.machine_load import OtherLoad
from nomoat.run.speculation import Speculation

__all__ = ["Calibration"]

_ROUNDS, _MOST_ROUNDS = 3, 12  # quiet ones, and tried altogether
_BEHIND, _ROWS = 32, 16  # tokens before, and those whose logits are compared
_BUSY_CORES = 0.2  # other programs used more than this many cores: the times say nothing of the machine
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
        rows: dict[int, NDArray[np.float32]] = {}
        for portion in STEADY_PORTIONS:
            if self._memory.held_cells:
                return
            rows[portion] = self._evaluated(portion)
            self._context.clear()
            yield True
        steady = steady_tokens(rows)
        self._speculation.learn_steady(steady)
        seconds = yield from self._time_rounds()
        if seconds is None:
            return
        # llama.cpp builds its graph anew when the number of tokens changes: a draft costs that twice, there and back.
        costs = {n: seconds[n] - (seconds[1] if n > 1 else 0.0) for n in CURVE_POINTS}
        self._speculation.learn_costs(costs)
        self._record.write(costs, steady)

    def _time_rounds(self) -> Generator[bool, None, dict[int, float] | None]:
        """The least seconds of the quiet rounds, None for too few: what ran beside others compares with nothing.

        On a machine that is never quiet the usual shape of the curve serves, and every decode corrects it.
        """
        quiet: list[dict[int, float]] = []
        for _ in range(_MOST_ROUNDS):
            load, found = OtherLoad(), {}
            for count in CURVE_POINTS:  # taking turns: a moment of other work hits not one count alone
                if self._memory.held_cells:
                    return None
                found[count] = self._timed(count)
                self._context.clear()
                yield True
            if load.cores() <= _BUSY_CORES:
                quiet.append(found)
            if len(quiet) == _ROUNDS:
                return {count: min(one[count] for one in quiet) for count in CURVE_POINTS}
        return None

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
