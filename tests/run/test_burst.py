"""Tokens that are decoded in a row are the same as one by one, and whoever wants to look at each of them can."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nomoat.run import burst as burst_module
from nomoat.run.burst import Burst
from nomoat.run.context import Context, NoRoom, Part
from nomoat.run.error_log import ErrorLog
from nomoat.run.kv.memory import Claim, Held
from nomoat.run.llama import Model
from nomoat.run.protocol import Generate, Piece
from nomoat.run.sampling import SamplingParams
from nomoat.run.sequence import Sequence

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
CELLS = 256


@pytest.fixture(scope="module")
def context(smollm2_path: Path) -> Iterator[Context]:
    model = Model(smollm2_path, ErrorLog())
    context = Context(model, CELLS, 2)
    yield context
    context.close()
    model.close()


@pytest.fixture(autouse=True)
def all_the_time_in_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs must not cut a burst short."""
    monkeypatch.setattr(burst_module, "_MOST_SECONDS", 1e9)


def _begun(context: Context, sent: list[Piece], **sampling: Any) -> Sequence:
    """A sequence whose first token is chosen."""
    context.clear()
    prompt = context.model.tokenize(PROMPT, False, True)
    params = SamplingParams(temperature=0, **sampling)
    sequence = Sequence(context.model, Generate(1, prompt, params), (), CELLS, sent.append)
    sequence.begin(Claim(Held(0, ()), 0, 0))
    assert sequence.held is not None
    context.evaluate([Part(0, 0, prompt, 1)])
    sequence.held.tokens += prompt
    sequence.take(sequence.choose(context, context.logits(1), 0), context.logits(1)[0])
    return sequence


def _has_decoded(burst: Burst, count: int) -> bool:
    return len(burst.seconds) == count


def _finish(context: Context, sequence: Sequence, most: int) -> list[int]:
    """How many decodes each burst had, until the answer has ended; none has more than `most`."""
    counts = []
    reason = None
    while reason is None:
        burst = Burst(context, sequence)
        burst.decode(partial(_has_decoded, burst, most))
        counts.append(len(burst.seconds))
        reason = burst.hand_over()
        if reason is None:
            logits = context.logits(1)
            reason = sequence.take(sequence.choose(context, logits, 0), logits[0])
    assert reason == "stop"
    return counts


def test_the_answer_is_the_same_in_a_row_as_one_by_one(context: Context) -> None:
    answers = []
    for most in (1, 3, 100):
        sequence = _begun(context, [], max_tokens=100)
        counts = _finish(context, sequence, most)
        assert max(counts) <= most
        answers.append(sequence.tokens)
        assert sequence.held is not None and sequence.held.tokens == sequence.tokens
    assert max(counts) > 1
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("wish", [{"logprobs": 1}, {"stop": ("moon",)}])
def test_one_by_one_where_each_token_must_be_looked_at(context: Context, wish: dict[str, Any]) -> None:
    assert _begun(context, [], **wish).burst == 1


def test_no_more_than_may_be_made(context: Context) -> None:
    sequence = _begun(context, [], max_tokens=3)
    assert sequence.room == sequence.burst == 2


def test_what_was_decoded_before_a_failure_counts(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = _begun(context, [], max_tokens=100)
    held, before, evaluate = sequence.held, len(sequence.tokens), context.evaluate_one
    assert held is not None

    def evaluate_once(token_id: int, position: int, number: int = 0) -> None:
        if position == before:
            raise NoRoom
        evaluate(token_id, position, number)

    monkeypatch.setattr(context, "evaluate_one", evaluate_once)
    burst = Burst(context, sequence)
    with pytest.raises(NoRoom):
        burst.decode(lambda: False)
    assert burst.hand_over() is None
    assert len(sequence.tokens) == before + len(burst.tokens) == before + 1
    assert sequence.pending == 1 and sequence.decodes
