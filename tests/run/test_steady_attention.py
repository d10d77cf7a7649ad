"""A token's logits do not depend on how many tokens or threads they were computed with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import tiny_model

from nomoat.base.settings import Settings
from nomoat.run import steady_attention
from nomoat.run.context import Context, Part
from nomoat.run.drafts.verification import STEADY_PORTIONS, steady_tokens
from nomoat.run.engine import Engine
from nomoat.run.error_log import ErrorLog
from nomoat.run.llama import Model
from nomoat.run.sampling import SamplingParams
from nomoat.run.steady_attention import AttentionSwitch, capture_attention

PREFIX = 300  # llama.cpp rounds up to 512 tokens in memory: there it begins to split attention
COUNT = 4

pytestmark = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="other processors have other kernels"
)


@pytest.fixture(scope="module")
def context(smollm2_path: Path) -> Iterator[Context]:
    model = Model(smollm2_path, ErrorLog())
    context = Context(model, 512, 2)
    context.evaluate([Part(0, 0, _tokens(PREFIX), 1)])
    yield context
    context.close()
    model.close()


def _tokens(count: int) -> list[int]:
    return [1000 + (index * 7919) % 40_000 for index in range(count)]


def _rows(context: Context, portion: int) -> NDArray[np.float32]:
    """Logits `(COUNT, n_vocab)` of the tokens behind the prefix, evaluated in portions."""
    context.truncate(0, PREFIX)
    rows = []
    for start in range(0, COUNT, portion):
        context.evaluate([Part(0, PREFIX + start, _tokens(COUNT)[start : start + portion], portion)])
        rows.append(np.array(context.logits(portion)).reshape(portion, -1))
    return np.concatenate(rows)


def test_a_token_has_the_same_logits_in_any_portions_and_with_any_threads(context: Context) -> None:
    assert context.attention.available
    alone = _rows(context, 1)
    assert (alone == _rows(context, 2)).all()
    assert (alone == _rows(context, 4)).all()
    context.set_threads(1, 1)
    assert (alone == _rows(context, 1)).all()
    context.set_threads(2, 2)


def test_without_the_switch_a_token_alone_differs_from_tokens_together(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails, llama.cpp has become steady by itself, and the switch can go."""
    context.attention.prepare(2)
    monkeypatch.setattr(context, "attention", AttentionSwitch())
    assert (_rows(context, 1) != _rows(context, 4)).any()


def test_with_an_unknown_llama_cpp_the_switch_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_attention, "_KNOWN_VERSION", "0.0.0")
    with capture_attention() as switch:
        pass
    assert not switch.available
    switch.prepare(1)


def test_a_model_tells_how_many_tokens_it_evaluates_alike() -> None:
    alone = np.ones((16, 4), np.float32)

    def rows(first_that_differs: int) -> dict[int, NDArray[np.float32]]:
        return {n: alone + np.float32(1e-6) * (n >= first_that_differs) for n in STEADY_PORTIONS}

    assert steady_tokens(rows(99)) is None
    assert steady_tokens(rows(4)) == 3
    assert steady_tokens(rows(2)) == 1


def test_floats_are_evaluated_alike_one_by_one_only_and_so_nothing_is_guessed(tmp_path: Path) -> None:
    path = tiny_model("windows", tmp_path / "floats.gguf", floats=True)
    model = Model(path, ErrorLog())
    rows = {portion: _first_rows(model, portion) for portion in STEADY_PORTIONS}
    model.close()
    assert steady_tokens(rows) == 1
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    with Engine(path, context_length=512, settings=settings) as engine:
        sampling = SamplingParams(temperature=0, max_tokens=60, ignore_end=True)
        answer = engine.generate([(7 * place) % 11 for place in range(200)], sampling)
        answer.text()
        assert answer.result is not None and answer.result.draft_tokens == 0


def _first_rows(model: Model, portion: int) -> NDArray[np.float32]:
    """Logits `(16, n_vocab)` of a text's first tokens, evaluated in portions."""
    context, rows = Context(model, 256, 1), []
    for start in range(0, 16, portion):
        tokens = [(7 * place) % 200 for place in range(start, min(16, start + portion))]
        context.evaluate([Part(0, start, tokens, len(tokens))])
        rows.append(np.array(context.logits(len(tokens))).reshape(len(tokens), -1))
    context.close()
    return np.concatenate(rows)
