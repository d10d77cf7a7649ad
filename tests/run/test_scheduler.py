"""Several requests at once, from the real model in a real worker: each gets the answer it would get alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nomoat.base.errors import ContextOverflowError, InputError, OverloadedError
from nomoat.base.settings import Settings
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.protocol import GenerateResult
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=16)
ENDLESS = SamplingParams(temperature=0, max_tokens=100_000, ignore_end=True)
PROMPTS = [f"{n}, {n + 1}, {n + 2}, {n + 3}, {n + 4}, {n + 5}, {n + 6}," for n in range(1, 13)]
CONTEXT_TOKENS = 512


@pytest.fixture(scope="module")
def parallel(smollm2_path: Path, settings: Settings) -> Iterator[Engine]:
    with Engine(
        smollm2_path, context_length=CONTEXT_TOKENS, parallel=4, queue=12, settings=settings
    ) as running:
        yield running


def _together(
    engine: Engine, prompts: list[str], adapters: list[list[AdapterRef]] | None = None
) -> list[str]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        sets = adapters or [[] for _ in prompts]
        answers = [
            pool.submit(engine.generate(prompt, GREEDY, refs, client=str(number)).text)
            for number, (prompt, refs) in enumerate(zip(prompts, sets, strict=True))
        ]
        return [answer.result() for answer in answers]


def _finished(engine: Engine, prompt: str | list[int], sampling: SamplingParams = GREEDY) -> GenerateResult:
    answer = engine.generate(prompt, sampling)
    answer.text()
    assert answer.result is not None
    return answer.result


def test_more_requests_than_run_at_once_all_get_their_own_answers(parallel: Engine) -> None:
    alone = [parallel.generate(prompt, GREEDY).text() for prompt in PROMPTS]
    assert len(set(alone)) == len(PROMPTS)
    assert _together(parallel, PROMPTS) == alone


def test_a_prompt_that_many_send_at_once_is_evaluated_once(parallel: Engine) -> None:
    story = "The lighthouse keeper counted ships. " * 12
    before = parallel.stats()
    _together(parallel, [f"{story} It was day {n}" for n in range(8)])
    after = parallel.stats()
    evaluated = sum(
        sign * (now["prompt_tokens"] - now.get("cached_tokens", 0))
        for sign, now in ((1, after), (-1, before))
    )
    assert evaluated < 2 * len(parallel.encode(story))


def test_a_short_request_does_not_wait_for_a_long_answer(parallel: Engine) -> None:
    with parallel.generate("Once upon a time", ENDLESS) as long:
        next(long)
        assert parallel.generate(PROMPTS[0], GREEDY).text()
        assert long.result is None


def test_a_cancelled_request_frees_its_place_and_disturbs_nobody(parallel: Engine) -> None:
    expected = parallel.generate(PROMPTS[1], GREEDY).text()
    endless = [parallel.generate(f"{n} times", ENDLESS) for n in range(4)]
    for answer in endless:
        next(answer)
    waiting = parallel.generate(PROMPTS[1], GREEDY)
    for answer in endless:
        answer.close()
    assert waiting.text() == expected
    assert parallel.stats()["running"] == 0


def test_a_request_that_is_cancelled_while_it_waits_answers_without_a_token(parallel: Engine) -> None:
    endless = [parallel.generate(f"{n} times", ENDLESS) for n in range(4)]
    for answer in endless:
        next(answer)
    waiting = parallel.generate(PROMPTS[0], GREEDY)
    waiting.cancel()
    waiting.text()
    assert waiting.result is not None
    assert (waiting.result.finish_reason, waiting.result.completion_tokens) == ("cancelled", 0)
    for answer in endless:
        answer.close()


def test_a_full_queue_refuses_and_what_was_accepted_is_answered(parallel: Engine) -> None:
    answers = [parallel.generate("Count:", SamplingParams(temperature=0, max_tokens=40)) for _ in range(30)]
    refused = 0
    for answer in answers:
        try:
            answer.text()
        except OverloadedError as error:
            refused += 1
            assert error.hint
            assert error.retry_after_seconds > 0
    assert 0 < refused <= 30 - 12


def test_a_prompt_larger_than_the_context_is_refused_with_figures(parallel: Engine) -> None:
    with pytest.raises(ContextOverflowError, match="512"):
        parallel.generate([5] * CONTEXT_TOKENS, GREEDY).text()


def test_answers_that_together_need_more_memory_than_there_is_wait_for_each_other(
    smollm2_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomoat.run.engine._KV_BYTES", 1)  # the cells of one context only
    with Engine(smollm2_path, context_length=128, parallel=4, settings=settings) as engine:
        sampling = SamplingParams(temperature=0, max_tokens=75, ignore_end=True)
        alone = [engine.generate(prompt, sampling, reuse=False).text() for prompt in PROMPTS[:4]]
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(engine.generate(prompt, sampling).text) for prompt in PROMPTS[:4]]
            assert [job.result() for job in jobs] == alone


def test_log_probabilities_can_be_asked_for_while_answers_run(parallel: Engine) -> None:
    tokens = parallel.encode(PROMPTS[2])
    quiet = parallel.token_logprobs(tokens)
    with parallel.generate("Once upon a time", ENDLESS) as answer:
        next(answer)
        np.testing.assert_allclose(parallel.token_logprobs(tokens), quiet, atol=0.05)
        entries = parallel.prompt_logprobs(tokens, top=3)
        assert answer.result is None
    assert entries[0] is None
    for token, entry, value in zip(tokens[1:], entries[1:], quiet, strict=True):
        assert entry is not None
        assert (entry.token_id, len(entry.top)) == (token, 3)
        assert entry.logprob == pytest.approx(value, abs=0.05)
        assert entry.top[0].logprob >= entry.top[1].logprob >= entry.top[2].logprob


def test_different_adapters_at_once_each_answer_as_they_do_alone(parallel: Engine, tmp_path: Path) -> None:
    sets = [[AdapterRef(_adapter_file(tmp_path / f"{seed}.gguf", seed))] for seed in range(5)]
    prompts = [PROMPTS[0]] * len(sets)
    for _ in range(2):  # the second time from the same cached prompts as below
        alone = [parallel.generate(p, GREEDY, refs).text() for p, refs in zip(prompts, sets, strict=True)]
    assert _together(parallel, prompts, sets) == alone


def _adapter_file(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    modules = {
        f"blk.{block}.attn_q.weight": (
            random.normal(0, 0.2, (4, 576)).astype(np.float32), random.normal(0, 0.2, (576, 4)).astype(np.float32)
        )
        for block in range(4)
    }  # fmt: skip
    write_gguf_lora(LoraAdapter("", "llama", 4, 4.0, modules, 9, 3), path)
    return path


# -- grammars ------------------------------------------------------------------------------------


def test_an_answer_follows_its_grammar(parallel: Engine) -> None:
    grammar = 'root ::= "{\\"colour\\": \\"" ("red" | "green" | "blue") "\\"}"'
    for temperature in (0.0, 1.5):
        sampling = SamplingParams(temperature=temperature, max_tokens=40, seed=1, grammar=grammar)
        text = parallel.generate("A colour:", sampling).text()
        assert text in {f'{{"colour": "{colour}"}}' for colour in ("red", "green", "blue")}


def test_a_grammar_that_cannot_be_read_is_refused(parallel: Engine) -> None:
    with pytest.raises(InputError, match="grammar"):
        parallel.generate("A colour:", SamplingParams(grammar="root ::= (")).text()


@pytest.mark.parametrize(
    "grammar",
    ['root ::= "a" [^\\x01-\\U0010FFFF]', "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000, "\ud800"],
)
def test_a_grammar_that_leads_nowhere_fails_alone(parallel: Engine, grammar: str) -> None:
    pid = parallel.model and parallel.worker_pid
    with parallel.generate("Once upon a time", ENDLESS) as other:
        next(other)
        with pytest.raises(InputError, match="grammar"):
            parallel.generate("A letter:", SamplingParams(grammar=grammar, max_tokens=8)).text()
        next(other)
    assert parallel.worker_pid == pid


def test_a_grammar_and_a_penalty_go_together(parallel: Engine) -> None:
    sampling = SamplingParams(
        temperature=0, max_tokens=8, grammar='root ::= "xyz" [ -~]*', presence_penalty=5.0, repeat_last_n=64
    )
    assert parallel.generate("The capital of France is", sampling, reuse=False).text().startswith("xyz")


# -- odd sizes, and requests that need the whole memory ------------------------------------------


@pytest.mark.parametrize(("context_length", "prompt_tokens"), [(300, 290), (1000, 980), (40, 39)])
def test_a_context_of_any_length_holds_what_it_promises(
    smollm2_path: Path, settings: Settings, context_length: int, prompt_tokens: int
) -> None:
    with Engine(smollm2_path, context_length=context_length, settings=settings) as engine:
        result = _finished(engine, [5] * prompt_tokens, SamplingParams(temperature=0, ignore_end=True))
        assert result.completion_tokens == context_length - prompt_tokens


def test_reading_and_answering_wait_for_room_instead_of_failing(
    smollm2_path: Path, settings: Settings
) -> None:
    with Engine(smollm2_path, context_length=256, settings=settings) as engine, ThreadPoolExecutor(6) as pool:
        tokens = [(7 * place) % 1000 for place in range(250)]
        scores = [pool.submit(engine.token_logprobs, [n, *tokens]) for n in range(4)]
        answer = pool.submit(engine.generate(tokens[:200], GREEDY).text)
        assert answer.result()
        assert all(len(score.result()) == 250 for score in scores)


# -- what outlives the worker ----------------------------------------------------------------------


def test_a_long_prompt_comes_back_from_disk_after_a_restart(smollm2_path: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    story = "The lighthouse keeper counted the ships that passed in the night. " * 25
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        tokens = engine.encode(story)
        first = engine.generate(tokens, GREEDY).text()
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        answer = engine.generate(tokens, GREEDY)
        assert answer.text() == first
        assert answer.result is not None
        assert answer.result.restored_tokens == len(tokens) - 1


@pytest.mark.parametrize("then", ["replaced", "removed"])
def test_an_adapter_that_changes_while_it_answers_leaves_nothing_wrong_behind(
    smollm2_path: Path, tmp_path: Path, then: str
) -> None:
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    path = _adapter_file(tmp_path / "adapter.gguf", 1)
    sampling = SamplingParams(temperature=0, max_tokens=300, ignore_end=True)
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        answer = engine.generate(PROMPTS[0], sampling, [AdapterRef(path)])
        next(answer)
        pid = engine.worker_pid
        if then == "replaced":
            _adapter_file(tmp_path / "new.gguf", 2).replace(path)
        else:
            path.unlink()
        tokens = [token for chunk in answer for token in chunk.token_ids]
        time.sleep(0.3)  # a quiet moment, in which states are saved
        assert engine.generate(PROMPTS[1], GREEDY).text()
        assert engine.worker_pid == pid
    if then == "replaced":
        with Engine(smollm2_path, context_length=512, settings=settings) as engine:
            prompt = engine.encode(PROMPTS[0], add_special=True) + tokens[:250]
            later = engine.generate(prompt, GREEDY, [AdapterRef(path)])
            later.text()
            assert later.result is not None
            assert later.result.restored_tokens == 0


def test_nothing_is_kept_where_the_owner_says_so(smollm2_path: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, threads=1, embedded_model=None, kv_cache_bytes=0, history=False)
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        _finished(engine, "The lighthouse keeper counted the ships. " * 40)
        time.sleep(0.2)
    assert not (tmp_path / "cache" / "kv").exists()
    assert not (tmp_path / "cache" / "history").exists()


def test_copied_text_is_guessed_ahead_and_the_answer_is_the_same(parallel: Engine) -> None:
    tokens = parallel.encode("red, green, blue, yellow, violet, orange, brown, black, white, grey; " * 4)
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_end=True)
    plain = parallel.generate(tokens, sampling, speculate=False, reuse=False)
    expected = plain.text()
    guessed = parallel.generate(tokens, sampling, reuse=False)
    assert guessed.text() == expected
    assert plain.result is not None
    assert plain.result.draft_tokens == 0
