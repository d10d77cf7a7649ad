"""A session that lives through anything: conversations go on, part, repeat themselves, are cancelled and restarted.

After each step the answer is compared with that of a session that remembers nothing. For longer than the tests have:

    .venv/bin/python tests/run/kv/memory_walk.py windows 100     (kind of memory, number of walks)
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from memory_bench import Answer, Bench, assert_same
from tiny_models import ROUNDED, tiny_model

__all__ = ["TOGETHER_NATS", "Walk"]

TOGETHER_NATS = 0.3
"""By how much log-probabilities may differ where sequences were computed together, whose sums have another order.

In 48 walks it was 0.18 at most. A fault can hide below that, but what is computed alone is compared to the last bit.
"""

_MOST_TOKENS, _MOST_CONVERSATIONS = 470, 12
_MOST_OPERATIONS = 60  # of the network of a tiny model, after which an evaluation is stopped


class Walk:
    """One random walk. `counts` and `largest_nats` say afterwards what it met."""

    def __init__(self, path: Path, home: Path, seed: int, parallel: int = 1, exact: bool = True) -> None:
        """`exact` says whether the model has the same bits for a token alone and with others."""
        self._nats = 0.0 if exact and parallel == 1 else TOGETHER_NATS
        self._path, self._home, self._parallel = path, home, parallel
        self._random = random.Random(seed)
        self._fresh, self._bench = Bench(path), Bench(path, home, parallel=parallel)
        self._system = self._words(150)
        self._conversations: list[list[int]] = []
        self.counts: Counter[str] = Counter()
        self.largest_nats = 0.0

    def run(self, steps: int) -> None:
        """Take so many steps, then close. Raises `AssertionError` for a wrong answer."""
        together = [self._together] if self._parallel > 1 else []
        kinds: list[Callable[[], None]] = [
            *[self._answer] * 6,
            *[self._cancel] * 2,
            self._restart,
            self._rest,
            *together,
        ]
        try:
            for step in range(steps):
                kind = self._random.choice(kinds)
                try:
                    kind()
                except AssertionError as error:
                    raise AssertionError(f"step {step}, {kind.__name__}: {error}") from error
                del self._conversations[:-_MOST_CONVERSATIONS]
        finally:
            self._bench.close()
            self._fresh.close()

    # -- steps ---------------------------------------------------------------------------------------

    def _answer(self) -> None:
        prompt = self._prompt()
        before = self._bench.evaluated
        answer = self._bench.answer(prompt, self._random.randint(1, 30))
        result = answer.result
        assert result is not None
        self.counts.update(
            prompt=len(prompt), cached=result.cached_tokens, restored=result.restored_tokens,
            drafted=result.draft_tokens, wrong=result.draft_tokens - result.accepted_tokens,
        )  # fmt: skip
        if not result.draft_tokens:
            spared = result.cached_tokens + result.restored_tokens
            assert self._bench.evaluated - before == len(prompt) - spared + result.completion_tokens - 1
        self._check(answer)

    def _cancel(self) -> None:
        """Between evaluations, or in the middle of one."""
        number, answer = self._bench.begin(self._prompt(), 40)
        for _ in range(self._random.randint(0, 4)):
            self._bench.step()
        if self._random.random() < 0.7 and answer.result is None:
            self._bench.interruption.after = self._random.randrange(_MOST_OPERATIONS)
            self._bench.step()
            self._bench.interruption.after = None
        self._bench.cancel(number)
        self._check(answer)

    def _restart(self) -> None:
        self._bench.close()
        self._bench = Bench(self._path, self._home, parallel=self._parallel)

    def _rest(self) -> None:
        self._bench.rest()

    def _together(self) -> None:
        """Several, more than run at once perhaps, that come at different times; one of them may be cancelled."""
        begun = []
        for _ in range(self._random.randint(2, self._parallel + 1)):
            begun.append(self._bench.begin(self._prompt(), self._random.randint(1, 30)))
            for _ in range(self._random.randint(0, 5)):
                self._bench.step()
        if self._random.random() < 0.4:
            self._bench.cancel(self._random.choice(begun)[0])
        self._bench.finish()
        for _, answer in begun:
            self._check(answer)

    # -- what they need ------------------------------------------------------------------------------

    def _check(self, answer: Answer) -> None:
        assert answer.failure is None and answer.result is not None, answer.failure
        self._conversations.append(answer.tokens + answer.token_ids)
        if answer.made:
            fresh = self._fresh.answer(answer.tokens, len(answer.made), reuse=False, speculate=False)
            self.largest_nats = max(self.largest_nats, assert_same(answer.made, fresh.made, self._nats))

    def _prompt(self) -> list[int]:
        """A new conversation, or one that goes on, parts anywhere, comes again, or repeats its end."""
        kind = self._random.random()
        if not self._conversations or kind < 0.15:
            return [*self._random.choice(([], self._system)), *self._words(self._random.randint(5, 200))]
        known = self._random.choice(self._conversations)
        if kind < 0.5:
            prompt = known + self._words(self._random.randint(1, 60))
        elif kind < 0.75:
            prompt = known[: self._random.randint(1, len(known))] + self._words(self._random.randint(1, 60))
        elif kind < 0.85:
            prompt = known
        else:
            prompt = known + known[-self._random.randint(10, 60) :]
        return prompt if len(prompt) < _MOST_TOKENS else self._words(20)

    def _words(self, count: int) -> list[int]:
        return [self._random.randrange(256) for _ in range(count)]


def _main(arguments: Sequence[str]) -> None:
    kind, walks = arguments[0], int(arguments[1])
    counts: Counter[str] = Counter()
    largest = {1: 0.0, 3: 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = tiny_model(kind, Path(folder) / "tiny.gguf")
        for seed in range(walks):
            for parallel in (1, 3):
                walk = Walk(path, Path(folder) / f"{seed}-{parallel}", seed, parallel, kind not in ROUNDED)
                try:
                    walk.run(40)
                except AssertionError as error:
                    print(f"walk {seed} with {parallel} at once: {error}")
                counts += walk.counts
                largest[parallel] = max(largest[parallel], walk.largest_nats)
    print(kind, dict(counts), "largest difference in nats, alone and together:", largest)


if __name__ == "__main__":
    _main(sys.argv[1:])
