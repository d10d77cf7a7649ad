"""The embedded model itself verifies drafts: the greedy answer stays what it is, in fewer decodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nomoat.run.drafts.cost_curve import CURVE_POINTS, CostCurve
from nomoat.run.drafts.speculator import Speculator
from nomoat.run.drafts.verification import accepted_count, steady_tokens, trustworthy
from nomoat.run.error_log import ErrorLog
from nomoat.run.llama import Context, Model

PROMPT = (
    "<|im_start|>user\nRepeat this list word by word:\n\nApples from Greta, pears from Anton, plums from Ida,"
    " cherries from Jonas, quinces from Martha.<|im_end|>\n<|im_start|>assistant\n"
)
ANSWER_TOKENS = 40


@pytest.fixture(scope="module")
def context(smollm2_path: Path) -> Iterator[Context]:
    model = Model(smollm2_path, ErrorLog())
    context = Context(model, 256, 1)
    yield context
    context.close()
    model.close()


def _start(context: Context) -> tuple[list[int], int]:
    """The prompt is evaluated; returns it and the answer's first token."""
    prompt = context.model.tokenize(PROMPT, False, True)
    context.clear()
    context.evaluate(prompt, 0)
    return prompt, int(context.logits().argmax())


def _plain(context: Context) -> list[int]:
    prompt, token = _start(context)
    answer = [token]
    while len(answer) < ANSWER_TOKENS:
        context.evaluate_one(answer[-1], len(prompt) + len(answer) - 1)
        answer.append(int(context.logits().argmax()))
    return answer


def test_the_greedy_answer_is_the_same_in_fewer_decodes(context: Context) -> None:
    plain = _plain(context)
    prompt, token = _start(context)
    free = CostCurve({n: 1 + n / 100 for n in CURVE_POINTS})
    speculator = Speculator(prompt, free)
    answer, decodes = [token], 0
    speculator.accept(answer)
    while len(answer) < ANSWER_TOKENS:
        draft = speculator.draft(ANSWER_TOKENS - len(answer) - 1)
        start = len(prompt) + len(answer) - 1
        context.evaluate([answer[-1], *draft], start, "all")
        chosen = context.logits(len(draft) + 1).argmax(1).tolist()
        right = accepted_count(draft, chosen)
        context.keep_prefix(start + right + 1)
        answer += chosen[: right + 1]
        speculator.accept(chosen[: right + 1])
        decodes += 1
    assert answer == plain
    assert decodes < ANSWER_TOKENS * 0.7
    assert speculator.accepted_tokens == ANSWER_TOKENS - 1 - decodes


def test_a_choice_is_trusted_only_with_a_lead() -> None:
    logits = np.array([1.0, 5.0, 4.8, -2.0], np.float32)
    assert trustworthy(logits, 1, 0.1)
    assert not trustworthy(logits, 1, 0.3)
    assert not trustworthy(logits, 2, 0.1)


def test_a_model_tells_how_many_tokens_it_evaluates_alike() -> None:
    alone = np.ones((16, 4), np.float32)
    assert steady_tokens(lambda portion: alone) is None
    assert steady_tokens(lambda portion: alone + np.float32(1e-6) * (portion >= 4)) == 3
    assert steady_tokens(lambda portion: alone + np.float32(1e-6) * (portion >= 2)) == 1
