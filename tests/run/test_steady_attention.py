"""A token's logits do not depend on how many tokens or threads they were computed with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nomoat.run import steady_attention
from nomoat.run.error_log import ErrorLog
from nomoat.run.llama import Context, Model
from nomoat.run.steady_attention import AttentionSwitch, capture_attention

PREFIX = 300  # llama.cpp rounds up to 512 tokens in memory: there it begins to split attention
COUNT = 4

pytestmark = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="other processors have other kernels"
)


@pytest.fixture(scope="module")
def context(smollm2_path: Path) -> Iterator[tuple[Context, AttentionSwitch]]:
    model = Model(smollm2_path, ErrorLog())
    with capture_attention() as switch:
        context = Context(model, 512, 2)
    context.evaluate(_tokens(PREFIX), 0)
    yield context, switch
    context.close()
    model.close()


def _tokens(count: int) -> list[int]:
    return [1000 + (index * 7919) % 40_000 for index in range(count)]


def _rows(context: Context, portion: int, switch: AttentionSwitch | None = None) -> NDArray[np.float32]:
    """Logits `(COUNT, n_vocab)` of the tokens behind the prefix, evaluated in portions."""
    if switch is not None:
        switch.prepare(portion)
    context.keep_prefix(PREFIX)
    rows = []
    for start in range(0, COUNT, portion):
        context.evaluate(_tokens(COUNT)[start : start + portion], PREFIX + start, "all")
        rows.append(np.array(context.logits(portion)))
    return np.concatenate(rows)


def test_steady_attention_gives_the_same_logits_in_any_portions_and_threads(
    context: tuple[Context, AttentionSwitch],
) -> None:
    model_context, switch = context
    assert switch.available
    alone = _rows(model_context, 1, switch)
    assert (alone == _rows(model_context, 2, switch)).all()
    assert (alone == _rows(model_context, 4, switch)).all()
    model_context.set_threads(1, 1)
    assert (alone == _rows(model_context, 1, switch)).all()
    model_context.set_threads(2, 2)


def test_without_it_a_token_alone_differs_from_tokens_together(
    context: tuple[Context, AttentionSwitch],
) -> None:
    """When this fails, llama.cpp has become steady by itself, and the switch can go."""
    model_context, switch = context
    switch.prepare(2)
    assert (_rows(model_context, 1) != _rows(model_context, 4)).any()


def test_with_an_unknown_llama_cpp_the_switch_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_attention, "_KNOWN_VERSION", "0.0.0")
    with capture_attention() as switch:
        pass
    assert not switch.available
    switch.prepare(1)
