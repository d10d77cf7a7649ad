"""Memories that cannot forget the end of a text at will: sliding windows, recurrent states, and both together.

Every answer here is compared with that of a session which has read nothing but its prompt, to the last bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory_bench import Answer, Bench, assert_same
from numpy.typing import NDArray
from tiny_models import WINDOW

from nomoat.base.settings import Settings
from nomoat.run.context import Context, Part
from nomoat.run.engine import Engine
from nomoat.run.error_log import ErrorLog
from nomoat.run.kv import memory
from nomoat.run.kv.file import as_tokens
from nomoat.run.kv.store import KVStore
from nomoat.run.llama import Model
from nomoat.run.sampling import SamplingParams

RECURRENT = ["mamba", "hybrid", "hybrid-windows"]
SHORT, LONG = WINDOW - 12, 4 * WINDOW
"""Lengths of prompts: with its answer one fits into a window, the other does not."""


@pytest.fixture(params=["windows", *RECURRENT])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(kind: str, tiny_paths: dict[str, Path]) -> Path:
    return tiny_paths[kind]


@pytest.fixture
def bench(path: Path, tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(path, tmp_path)
    yield opened
    opened.close()


def _text(seed: int, count: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(256) for _ in range(count)]


def _spared(answer: Answer) -> int:
    assert answer.result is not None
    return answer.result.cached_tokens + answer.result.restored_tokens


def _checked(bench: Bench, prompt: list[int], count: int = 8) -> tuple[list[int], int]:
    """Prompt and answer, and how much of the prompt was not computed; the answer is checked."""
    before = bench.evaluated
    answer = bench.answer(prompt, count, speculate=False)
    assert bench.evaluated - before == len(prompt) - _spared(answer) + count - 1, "the figures are not true"
    fresh = bench.answer(prompt, count, reuse=False, speculate=False)
    assert_same(answer.made, fresh.made)
    return prompt + answer.token_ids, _spared(answer)


def _held(text: list[int]) -> int:
    """The last token of an answer was chosen, and not read."""
    return len(text) - 1


# -- parked and put back -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_parked_conversation_goes_on_where_it_stopped(bench: Bench, length: int) -> None:
    text, _ = _checked(bench, _text(1, length))
    bench.answer(text, 1)
    bench.rest()
    _checked(bench, _text(2, LONG))
    _, spared = _checked(bench, text + _text(3, 5))
    assert spared == len(text)


def test_what_a_window_has_left_behind_is_computed_again(bench: Bench, kind: str) -> None:
    """The copy has the last tokens alone, or one state: it cannot be cut back to the middle."""
    first = _text(1, LONG)
    bench.answer(first, 8)
    bench.answer(_text(2, LONG), 8)
    _, spared = _checked(bench, first[: LONG // 2] + _text(3, 5))
    assert spared == 0


def test_a_short_text_is_cut_back_even_when_parked(tiny_paths: dict[str, Path], tmp_path: Path) -> None:
    bench = Bench(tiny_paths["windows"], tmp_path)
    first = _text(1, SHORT)
    bench.answer(first, 8)
    bench.answer(_text(2, LONG), 8)
    _, spared = _checked(bench, first[: SHORT - 5] + _text(3, 5))
    assert spared == SHORT - 5
    bench.close()


def test_in_the_cells_a_long_text_is_cut_back_as_well(tiny_paths: dict[str, Path], tmp_path: Path) -> None:
    """llama.cpp still has the tokens before the window there: asked anew, a question costs no more than its end."""
    bench = Bench(tiny_paths["windows"], tmp_path)
    first = _text(1, LONG)
    bench.answer(first, 8)
    for common in (LONG - 1, LONG - 20, LONG // 2):
        bench.answer(first, 8)
        _, spared = _checked(bench, first[:common] + _text(common, 5))
        assert spared == common
        bench.answer(first, 8, reuse=False)
    bench.close()


def test_a_copy_that_does_not_serve_hides_no_other(tiny_paths: dict[str, Path], tmp_path: Path) -> None:
    """The longer conversation parts from the prompt in its middle, the shorter one is all of its beginning."""
    bench = Bench(tiny_paths["mamba"], tmp_path)
    short = _text(1, 40)
    short += bench.answer(short, 8).token_ids
    bench.rest()
    bench.answer(short + _text(2, 40), 8)
    bench.answer(_text(3, 40), 8)
    _, spared = _checked(bench, short + _text(2, 20) + _text(4, 10))
    assert spared == _held(short)
    bench.close()


# -- on disk -----------------------------------------------------------------------------------------


def test_after_a_restart_a_conversation_goes_on_and_parts_in_the_middle(
    path: Path, kind: str, tmp_path: Path
) -> None:
    bench = Bench(path, tmp_path)
    text = _text(1, 300)
    text += bench.answer(text, 8).token_ids
    bench.close()
    bench = Bench(path, tmp_path)
    _, spared = _checked(bench, text + _text(2, 5))
    assert spared == _held(text)
    bench.close()
    bench = Bench(path, tmp_path)
    _, spared = _checked(bench, text[:200] + _text(3, 5))
    assert spared == 0
    bench.close()


def test_what_comes_back_from_disk_lies_in_the_first_cells(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    """Also when a beginning of it lay there already."""
    bench = Bench(tiny_paths["windows"], tmp_path)
    text = _text(1, 300)
    text += bench.answer(text, 8).token_ids
    bench.close()
    bench = Bench(tiny_paths["windows"], tmp_path)
    bench.answer(text[:150] + _text(2, 100), 8)
    _, spared = _checked(bench, text + _text(3, 5))
    assert spared == _held(text)
    bench.answer(text[:150] + _text(4, 100), 8)
    assert bench.session.memory.held_cells == 257
    bench.close()


def test_what_an_interrupted_evaluation_left_is_not_stored(path: Path, tmp_path: Path) -> None:
    """Some layers of a recurrent state have read a token then, and others have not."""
    bench, text = Bench(path, tmp_path), _text(1, 300)
    bench.begin(text, 100)
    for _ in range(12):
        bench.step()
    bench.interruption.after = 20
    bench.step()
    bench.close()  # as when the parent has gone
    bench = Bench(path, tmp_path)
    assert bench.session.store is not None
    for size in (300, 310, 320):
        _checked(bench, _text(1, size))
    assert bench.session.store.stats()["damaged"] == 0
    bench.close()


# -- guesses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [WINDOW // 2, WINDOW - 3, 3 * WINDOW])
@pytest.mark.parametrize("guesses", [1, 3, 31])
def test_wrong_guesses_are_taken_back_from_windows(
    tiny_paths: dict[str, Path], length: int, guesses: int
) -> None:
    model = Model(tiny_paths["windows"], ErrorLog())
    context = Context(model, 512, 1)
    text, after = _text(1, length), _text(2, 3 * WINDOW)
    expected = _logits(context, text, after)
    context.clear()
    context.evaluate([Part(0, 0, text, 1)])
    found = []
    for place, token in enumerate(after):
        wrong = [token, *_text(1000 + place, guesses)]
        context.evaluate([Part(0, length + place, wrong, len(wrong))])
        found.append(context.logits(len(wrong)).reshape(len(wrong), -1)[0].copy())
        assert context.truncate(0, length + place + 1)
    assert np.array_equal(np.stack(found), expected)
    context.close()
    model.close()


def _logits(context: Context, text: list[int], after: list[int]) -> NDArray[np.float32]:
    """Logits `(len(after), n_vocab)`, one token at a time."""
    context.evaluate([Part(0, 0, text, 1)])
    rows = []
    for place, token in enumerate(after):
        context.evaluate_one(token, len(text) + place)
        rows.append(context.logits(1).reshape(-1).copy())
    return np.stack(rows)


def test_windows_are_guessed_in_and_states_are_not(bench: Bench, kind: str) -> None:
    prompt = _text(1, 20) * 8
    answer, fresh = (bench.answer(prompt, 60, reuse=False, speculate=guess) for guess in (True, False))
    assert_same(answer.made, fresh.made)
    assert answer.result is not None
    if kind in RECURRENT:
        assert answer.result.draft_tokens == 0


# -- cancelled, and too many -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 2, 12])
@pytest.mark.parametrize("after", [1, 10, 40])
def test_an_answer_cancelled_in_the_middle_of_an_evaluation_ends_as_any_other(
    bench: Bench, steps: int, after: int
) -> None:
    prompt = _text(1, LONG)
    number, answer = bench.begin(prompt, 100)
    for _ in range(steps):
        bench.step()
    bench.interruption.after = after
    bench.step()
    bench.interruption.after = None
    bench.cancel(number)
    assert answer.failure is None and answer.result is not None
    assert answer.result.finish_reason == "cancelled"
    _, spared = _checked(bench, prompt + answer.token_ids + _text(2, 5))
    if steps == 12:  # it was writing already: what was there is kept
        assert spared >= LONG


def test_in_a_worker_a_cancelled_answer_ends_as_any_other(path: Path, tmp_path: Path) -> None:
    """There the evaluation that runs is stopped at any point. The conversation goes on at once."""
    text = _text(1, 100)
    sampling = SamplingParams(temperature=0, max_tokens=1900, ignore_end=True)
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    with Engine(path, context_length=2048, settings=settings) as engine:
        for _ in range(8):
            answer = engine.generate(text, sampling)
            text = text + list(next(answer).token_ids)
            answer.cancel()
            text += [token for chunk in answer for token in chunk.token_ids]
            assert answer.result is not None and answer.result.finish_reason == "cancelled"


def test_a_full_memory_lets_the_younger_wait(path: Path) -> None:
    """256 cells for three conversations of 160 tokens each."""
    bench = Bench(path, context_length=256, cells=256, parallel=3)
    begun = [bench.begin(_text(seed, 100), 60)[1] for seed in range(3)]
    bench.finish()
    for answer in begun:
        assert answer.result is not None and len(answer.made) == 60, answer.failure
        fresh = bench.answer(answer.tokens, 60, reuse=False, speculate=False)
        assert_same(answer.made, fresh.made, 0.2)
    bench.close()


def test_a_beginning_that_is_computed_just_now_is_shared_where_it_can_be(path: Path) -> None:
    bench, common = Bench(path, parallel=3), _text(1, LONG)
    begun = [bench.begin(common + _text(seed, 5), 10, speculate=False)[1] for seed in range(3)]
    bench.finish()
    assert bench.evaluated == sum(len(answer.tokens) - _spared(answer) + 9 for answer in begun)
    for answer in begun:
        fresh = bench.answer(answer.tokens, 10, reuse=False, speculate=False)
        assert_same(answer.made, fresh.made, 0.2)
    bench.close()


# -- how much is kept --------------------------------------------------------------------------------


def test_states_of_a_fixed_size_are_parked_up_to_a_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.answer(_text(0, 40), 2)
    bench.rest()
    size = bench.session.parking.n_bytes
    assert size > 0
    monkeypatch.setattr(bench.session.parking, "_most_bytes", 5 * size)
    for seed in range(1, 9):
        bench.answer(_text(seed, 20), 2)
        bench.rest()
        assert bench.session.parking.n_bytes <= 5 * size
    assert bench.session.parking.n_bytes >= 2 * size


@pytest.mark.parametrize(("at_once", "free"), [(0, 1 << 40), (64 << 20, 1000)])
def test_what_is_too_large_to_copy_now_stays_where_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at_once: int, free: int
) -> None:
    """A large one is copied when another needs its place, and not at all while memory is short."""
    monkeypatch.setattr(memory, "_AT_ONCE_BYTES", at_once)
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: free)
    text, _ = _checked(bench, _text(1, LONG))
    bench.answer(text, 1)
    bench.rest()
    parked = bench.session.parking.n_bytes
    _checked(bench, text + _text(2, 5))
    _checked(bench, _text(3, LONG))
    _, spared = _checked(bench, text + _text(4, 5))
    if free == 1000:
        assert (parked, bench.session.parking.n_bytes) == (0, 0)
    else:
        assert spared == _held(text)


def test_a_short_entry_on_disk_outlives_a_long_one_that_cannot_be_cut_back(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    """Gemma's window is longer than what is worth a file; here the store is asked directly."""
    store = KVStore(tmp_path / "kv", 1 << 30, cuttable_tokens=150)
    text = _text(1, 400)
    for length in (120, 300, 400):
        store.save("scope", text[:length], bytes(length))
        assert store.flush(30)
    lengths = sorted(len(entry.tokens) for entry in store._scopes["scope"])
    assert lengths == [120, 400]
    found = store.longest("scope", as_tokens([*text[:100], 1, 2, 3]))
    assert found is not None and found.n_tokens == 100
    assert store.longest("scope", as_tokens(text)) is not None
    store.close()
