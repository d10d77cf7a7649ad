"""Continuous batching: every step evaluates what all running sequences of one adapter set need next.

A step holds one token (and its drafts) of each sequence that decodes, and as much of the prompts as fits behind
them. New sequences join at any step, finished ones leave. llama.cpp applies adapters to a whole evaluation, so
sequences with other adapters take turns.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import ContextOverflowError, InputError, NomoatError
from nomoat.run.adapter_pool import AdapterPool, AdapterSet
from nomoat.run.burst import Burst
from nomoat.run.context import Context, NoRoom
from nomoat.run.fair_queue import FairQueue
from nomoat.run.kv.memory import Claim, KVMemory
from nomoat.run.kv.prefix_tree import common_prefix
from nomoat.run.llama import Aborted
from nomoat.run.overtime import Overtime
from nomoat.run.protocol import Done, Generate, failure
from nomoat.run.sequence import Sequence
from nomoat.run.speculation import Speculation
from nomoat.run.step import Share, Step, StepSizes
from nomoat.run.threads import ThreadGovernor
from nomoat.run.turns import Turns

__all__ = ["Scheduler"]

_WORTH_WAITING = 64  # tokens of a prompt that another one, which is being evaluated now, will spare
_USUAL_ANSWER = 256  # tokens for which a new sequence must find room, where it asks for no fewer
_TOKENS_ALONE = 16  # that a lone reader gets before the rest of the worker is looked at


class Scheduler:
    """Owns the running sequences. `step` does one evaluation; everything happens in the caller's thread."""

    def __init__(
        self, context: Context, memory: KVMemory, pool: AdapterPool, governor: ThreadGovernor,
        speculation: Speculation, send: Callable[[Any], None], *, parallel: int, most_tokens: int, queue: int,
    ) -> None:  # fmt: skip
        """`most_tokens` bounds each sequence; `queue` bounds how many wait while `parallel` run."""
        self._speculation = speculation
        self.context, self.memory, self.pool, self.governor = context, memory, pool, governor
        self._send, self._parallel, self._most_tokens = send, parallel, most_tokens
        self._waiting: FairQueue[Sequence] = FairQueue(queue)
        self._running: list[Sequence] = []
        self._turns = Turns()
        self._overtime = Overtime(send)
        self._sizes = StepSizes(context.batch_tokens, context.output_tokens, speculation.curve)
        self._last_step = 0.0
        self.counters: Counter[str] = Counter()

    # -- requests ------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._running or self._waiting)

    @property
    def adapter_sets(self) -> set[AdapterSet]:
        """Adapters that must stay loaded."""
        return {sequence.adapters for sequence in (*self._running, *self._waiting)}

    def submit(self, request: Generate) -> None:
        """Take a request; it is answered through `send`. Raises what is wrong with it."""
        model = self.context.model
        model.check_tokens(request.tokens)
        if not request.tokens:
            raise InputError("the prompt is empty", "give it at least one token")
        if len(request.tokens) >= self._most_tokens:
            raise ContextOverflowError(
                f"the prompt has {len(request.tokens):,} tokens, but the context holds {self._most_tokens:,} "
                "with the answer",
                "shorten it, start the conversation anew, or use a larger --context-length",
            )
        adapters = self.pool.named(request.adapters)
        with self._limits(request):
            sequence = Sequence(model, request, adapters, self._most_tokens, self._send)
        try:
            self._waiting.push(sequence, request.client)
        except NomoatError:
            sequence.close()
            raise

    def cancel(self, ids: set[int]) -> None:
        """End these requests, running or waiting; they answer with what they have."""
        for sequence in self._waiting.discard(lambda sequence: sequence.id in ids):
            self._answer(sequence, "cancelled")
        for sequence in [sequence for sequence in self._running if sequence.id in ids]:
            self._end(sequence, "cancelled")

    def close(self) -> None:
        """End everything without an answer: nobody reads it any more."""
        for sequence in list(self._running):
            self._leave(sequence)
            sequence.close()

    def next_ids(self) -> set[int]:
        """Requests that the next `step` works for, as far as is known before it."""
        return {sequence.id for sequence in self._running} or {sequence.id for sequence in self._waiting}

    # -- one evaluation ------------------------------------------------------------------------------

    def step(self, interrupted: Callable[[], bool] = lambda: True) -> None:
        """Let waiting sequences in, evaluate once, hand out what came of it.

        Several times at once for a lone reader, until something has come that the caller must see to: `interrupted`.
        """
        if self._waiting:
            self._admit()
        if not self._running:
            return
        self.governor.begin(time.monotonic() - self._last_step)
        if len(self._running) == 1 and self._decode_alone(self._running[0], interrupted):
            return
        adapters = self._turns.next([sequence.adapters for sequence in self._running])
        step = self._sizes.compose([s for s in self._running if s.adapters == adapters])
        try:
            self.pool.load(adapters)
            self.pool.apply(adapters)
            threads = self.governor.threads
            self.context.set_threads(threads, threads if step.only_decodes else self.governor.top)
            step.evaluate(self.context)
        except NoRoom:
            self._relieve()
            return
        except Aborted:
            self._take_back([share.sequence for share in step.shares])
            return
        except (NomoatError, OSError) as error:
            self._fail(step, error)
            return
        self._observe(step)
        self._hand_out(step)

    def _decode_alone(self, sequence: Sequence, interrupted: Callable[[], bool]) -> bool:
        """One reader, single tokens, no guesses: what happens most at home goes the shortest way through the code.

        After an evaluation the processor's caches are cold, so the rest of `step` would cost several percent of a small
        model's time. False where there is more to do, or where something is wrong: `step` knows what then.
        """
        if not sequence.decodes:
            return False
        seconds: list[float] = []
        try:
            self.pool.load(sequence.adapters)
            self.pool.apply(sequence.adapters)
            while not sequence.draft(self.context.output_tokens - 1, 0):
                done = self._decode_some(sequence, seconds, interrupted)
                if done or len(seconds) >= _TOKENS_ALONE or interrupted():
                    break
        except Aborted:
            self._take_back([sequence])
            return True
        except (NoRoom, NomoatError, OSError):
            pass  # the next step meets it again, and sees to it
        if seconds:
            self._last_step = time.monotonic()
            self._speculation.curve.observe(1, sum(seconds) / len(seconds), len(seconds))
        return bool(seconds)

    def _decode_some(self, sequence: Sequence, seconds: list[float], interrupted: Callable[[], bool]) -> bool:
        """Decode as many tokens in a row as the sequence allows, add what each took to `seconds`; whether it ended."""
        threads = self.governor.threads
        self.context.set_threads(threads, self.governor.top)
        burst = Burst(self.context, sequence)
        try:
            burst.decode(interrupted)
        finally:
            seconds += burst.seconds
            for one in burst.seconds:
                if self.governor.observe(one) != threads:
                    break  # the rest was not decoded with as many as it looks at now
            reason = burst.hand_over()
        if reason is None:
            return self._take(Share(sequence, [], [], 1, 0), self.context.logits(1))
        self._end(sequence, reason)
        return True

    def _admit(self) -> None:
        while len(self._running) < self._parallel:
            clients = Counter(sequence.client for sequence in self._running)
            sequence = self._waiting.pop(clients, self._is_ready)
            if sequence is None:
                return
            try:
                self.pool.load(sequence.adapters)
                sequence.begin(self._claim(sequence))
                self._speculation.begin(sequence)
            except NoRoom:
                self._waiting.push_back(sequence, sequence.client)
                return
            except (NomoatError, OSError) as error:
                self._refuse(sequence, error)
                continue
            self._running.append(sequence)
            self.pool.free(self.adapter_sets)

    def _claim(self, sequence: Sequence) -> Claim:
        if sequence.request.reuse:
            return self.memory.claim(sequence.adapters, sequence.tokens)
        if not self._running:
            self.memory.forget_idle()
        return Claim(self.memory.fresh(sequence.adapters), 0, 0)

    def _is_ready(self, sequence: Sequence) -> bool:
        """Whether it may start: there is room for it, and nobody is computing its prompt's beginning just now."""
        busy = max(self.memory.busy_tokens, sum(len(running.tokens) for running in self._running))
        needed = len(sequence.tokens) + min(sequence.room, _USUAL_ANSWER)
        if busy and needed > self.context.cells - busy:
            return False
        return not any(
            other.adapters == sequence.adapters
            and not other.decodes
            and other.pending >= _WORTH_WAITING
            and common_prefix(other.tokens, sequence.tokens)
            >= len(other.tokens) - other.pending + _WORTH_WAITING
            for other in self._running
        )

    def _observe(self, step: Step) -> None:
        self._last_step = time.monotonic()
        seconds = self._sizes.observe(step)
        if seconds is not None:
            self.governor.observe(seconds)

    def _hand_out(self, step: Step) -> None:
        logits = self.context.logits(step.rows) if step.rows else None
        for share in step.shares:
            sequence, held = share.sequence, share.sequence.held
            assert held is not None
            was_prompt = not sequence.decodes
            self.memory.extend(held, share.tokens)
            if was_prompt:
                sequence.tell_progress()
            if logits is None or not share.outputs:
                continue
            if was_prompt:
                self.memory.publish(held)  # the prompt is there: others may build on it
            self._take(share, logits)

    def _take(self, share: Share, logits: NDArray[np.float32]) -> bool:
        """Let the sequence have what came of its share; returns whether it has ended."""
        sequence, held = share.sequence, share.sequence.held
        assert held is not None
        try:
            with self._limits(sequence.request):
                right, reason = share.take(self.context, logits)
        except NomoatError as error:  # its grammar has come to a dead end
            self._leave(sequence, keep=False)
            self._refuse(sequence, error)
            return True
        wrong = len(share.draft) - right
        if wrong:
            self.memory.truncate(held, len(held.tokens) - wrong)
        if reason is not None:
            self._end(sequence, reason)
        return reason is not None

    def _end(self, sequence: Sequence, reason: str) -> None:
        self._leave(sequence)
        self._answer(sequence, reason)

    def _limits(self, request: Generate) -> contextlib.AbstractContextManager[None]:
        """Choosing a token takes microseconds, but a grammar has no bound of its own."""
        if request.sampling.grammar is None:
            return contextlib.nullcontext()
        return self._overtime.limits(request.id)

    # -- when something goes wrong -------------------------------------------------------------------

    def _relieve(self) -> None:
        """The KV memory is full: give up what has ended, then let the youngest sequence wait, else end the last."""
        if self.memory.make_room():
            return
        youngest = max(self._running, key=lambda sequence: sequence.arrived)
        self._leave(youngest, keep=False)
        if self._running or self.memory.busy_tokens:
            self._waiting.push_back(youngest, youngest.client)
        else:
            self._answer(youngest, "length")

    def _take_back(self, sequences: Iterable[Sequence]) -> None:
        """Their evaluation was aborted: what it had added counts as not done."""
        for sequence in sequences:
            if sequence.held is not None:
                self.memory.take_back(sequence.held)

    def _fail(self, step: Step, error: Exception) -> None:
        for share in step.shares:
            self._leave(share.sequence, keep=False)
            self._refuse(share.sequence, error)

    def _refuse(self, sequence: Sequence, error: Exception) -> None:
        sequence.close()
        self._send(failure(sequence.id, error))

    def _leave(self, sequence: Sequence, keep: bool = True) -> None:
        self._running.remove(sequence)
        if sequence.held is not None:
            (self.memory.release if keep else self.memory.drop)(sequence.held)
            sequence.held = None

    def _answer(self, sequence: Sequence, reason: str) -> None:
        self._speculation.end(sequence)
        result = sequence.finish(reason, self.governor.threads)
        self.counters["requests"] += 1
        self.counters["prompt_tokens"] += result.prompt_tokens
        self.counters["cached_tokens"] += result.cached_tokens
        self.counters["restored_tokens"] += result.restored_tokens
        self.counters["completion_tokens"] += result.completion_tokens
        self.counters["draft_tokens"] += result.draft_tokens
        self.counters["accepted_tokens"] += result.accepted_tokens
        self._send(Done(sequence.id, result))

    def stats(self) -> dict[str, float]:
        """Counters since the start, and what is going on now."""
        return {
            **{name: float(count) for name, count in self.counters.items()},
            "running": float(len(self._running)), "waiting": float(len(self._waiting)),
            "kv_cells_used": float(self.memory.held_cells), "kv_cells": float(self.context.cells),
            "threads": float(self.governor.threads),
        }  # fmt: skip
