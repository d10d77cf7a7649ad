"""Gemma 3, whose layers but every sixth look at 512 tokens, in a real worker: nothing that it remembers is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomoat.base.settings import Settings
from nomoat.run.engine import Engine
from nomoat.run.generation import Generation
from nomoat.run.sampling import SamplingParams

sys.path.append(str(Path(__file__).parent / "kv"))

from memory_bench import Made, assert_same

CONTEXT_TOKENS = 1536
SHORT, LONG = 300, 1000
"""Tokens of two texts: within one window, and of about two."""
NATS = 0.5
"""By how much the log-probability of a choice may differ: K types have one routine for up to three tokens and another
for more, so a text that was written token by token is remembered a little otherwise than one that was read."""


@pytest.fixture(scope="module")
def gemma(gemma3_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = Settings(home=tmp_path_factory.mktemp("gemma-home"), threads=1, embedded_model=None)
    with Engine(gemma3_path, context_length=CONTEXT_TOKENS, parallel=3, settings=settings) as engine:
        yield engine


@pytest.fixture(scope="module")
def tokens(gemma: Engine) -> list[int]:
    """A text with sense in it: a model that knows what comes next is sure of its choices."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "kv-cache.md"
    return gemma.encode(page.read_text(), add_special=True)


def _begin(
    engine: Engine, prompt: list[int], count: int, reuse: bool = True, speculate: bool = True
) -> Generation:
    sampling = SamplingParams(temperature=0, max_tokens=count, logprobs=2, ignore_end=True)
    return engine.generate(prompt, sampling, reuse=reuse, speculate=speculate)


def _made(answer: Generation) -> list[Made]:
    entries = [entry for chunk in answer for entry in chunk.logprobs]
    return [Made(one.token_id, one.logprob, one.top[0].logprob - one.top[1].logprob) for one in entries]


def _checked(engine: Engine, prompt: list[int], count: int = 8) -> tuple[list[int], int, int]:
    """Prompt and answer, and how much of the prompt came from memory and from disk; the answer is checked."""
    answer = _begin(engine, prompt, count)
    made = _made(answer)
    assert answer.result is not None
    assert_same(made, _made(_begin(engine, prompt, count, reuse=False, speculate=False)), NATS)
    text = prompt + [one.token_id for one in made]
    return text, answer.result.cached_tokens, answer.result.restored_tokens


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_conversations_go_on_and_part_as_if_they_had_just_been_read(
    gemma: Engine, tokens: list[int], length: int
) -> None:
    text, _, _ = _checked(gemma, tokens[:length])
    _made(_begin(gemma, tokens[200:320], 2))  # another conversation takes the place
    text, cached, _ = _checked(gemma, text + tokens[:10])
    assert cached == length + 7
    _made(_begin(gemma, tokens[200:320], 2))
    middle = length - 100
    _, cached, _ = _checked(gemma, text[:middle] + tokens[:10])
    assert cached == (middle if length == SHORT else 0)


def test_what_was_asked_last_is_cut_back_where_it_lies(gemma: Engine, tokens: list[int]) -> None:
    _made(_begin(gemma, tokens[:LONG], 8, reuse=False))
    _, cached, _ = _checked(gemma, tokens[: LONG - 150] + tokens[:10])
    assert cached == LONG - 150


def test_copied_text_is_guessed_ahead_and_changes_nothing(gemma: Engine, tokens: list[int]) -> None:
    prompt = tokens[:600] + gemma.encode(
        "red, green, blue, yellow, violet, orange, brown, black, white, grey; " * 4
    )
    guessed, plain = (_begin(gemma, prompt, 60, reuse=False, speculate=guess) for guess in (True, False))
    assert_same(_made(guessed), _made(plain), NATS)
    assert guessed.result is not None and guessed.result.accepted_tokens > 0


def test_several_at_once_one_of_them_cancelled(gemma: Engine, tokens: list[int]) -> None:
    prompts = [tokens[:600] + tokens[start : start + 30] for start in (700, 760, 820)]
    endless = _begin(gemma, tokens[:500] + tokens[:20], 400)
    next(endless)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(_made, _begin(gemma, prompt, 8)) for prompt in prompts]
        endless.close()
        for prompt, job in zip(prompts, jobs, strict=True):
            assert_same(job.result(), _made(_begin(gemma, prompt, 8, reuse=False, speculate=False)), NATS)


def test_after_a_restart_a_long_text_comes_back_from_disk(
    gemma3_path: Path, gemma: Engine, tokens: list[int], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    with Engine(gemma3_path, context_length=CONTEXT_TOKENS, settings=settings) as engine:
        text = tokens[:LONG] + [one.token_id for one in _made(_begin(engine, tokens[:LONG], 8))]
    with Engine(gemma3_path, context_length=CONTEXT_TOKENS, settings=settings) as engine:
        answer = _begin(engine, text + tokens[:10], 8)
        made = _made(answer)
        assert answer.result is not None and answer.result.restored_tokens == LONG + 7
    assert_same(made, _made(_begin(gemma, text + tokens[:10], 8, reuse=False, speculate=False)), NATS)
