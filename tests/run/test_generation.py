"""What a user of the engine gets, from the real model in a real worker."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from nomoat.base.errors import InputError
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=24)
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
QUESTION = [{"role": "user", "content": "Say hello."}]


def test_greedy_decoding_continues_a_text(engine: Engine) -> None:
    assert engine.generate(COUNTING, GREEDY).text().startswith(" 13, 14, 15, 16")


def test_chunks_join_to_the_answer_and_the_last_has_the_figures(engine: Engine) -> None:
    chunks = list(engine.generate(COUNTING, GREEDY, reuse=False))
    result = chunks[-1].result
    assert result is not None
    assert chunks[-1].finish_reason == result.finish_reason == "length"
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    tokens = [token for chunk in chunks for token in chunk.token_ids]
    assert len(tokens) == result.completion_tokens == 24
    assert "".join(chunk.text for chunk in chunks) == engine.detokenize(tokens)
    assert result.prompt_tokens == len(engine.encode(COUNTING))
    assert result.cached_tokens == 0
    assert result.tokens_per_second > 0
    assert result.prompt_tokens_per_second > 0


def test_an_answer_ends_where_the_model_says_so(engine: Engine) -> None:
    answer = engine.chat(QUESTION, SamplingParams(temperature=0, max_tokens=200))
    text = answer.text()
    assert answer.result is not None
    assert answer.result.finish_reason == "stop"
    assert "<|im_end|>" not in text


def test_the_token_that_ended_an_answer_is_told_and_not_counted(engine: Engine) -> None:
    prompt = [*engine.encode_chat([{"role": "user", "content": "Say only: yes"}]), *engine.encode("Yes.")]
    answer = engine.generate(prompt, SamplingParams(temperature=0, max_tokens=8, logprobs=1))
    assert answer.text() == ""
    assert answer.result is not None and answer.result.end_logprob is not None
    assert (answer.result.completion_tokens, answer.result.end_token_id) == (0, engine.model.eos_token_id)
    assert answer.result.end_logprob.token_id == engine.model.eos_token_id
    cut = engine.generate(COUNTING, SamplingParams(temperature=0, max_tokens=2))
    cut.text()
    assert cut.result is not None and cut.result.end_token_id is None


def test_progress_tells_how_much_of_a_prompt_was_read(engine: Engine) -> None:
    prompt = [7, *engine.encode("one two three four " * 20)]
    one = SamplingParams(temperature=0, max_tokens=1)
    assert not any(chunk.progress for chunk in engine.generate(prompt, one, reuse=False))
    for reuse, cached in ((False, 0), (True, len(prompt) - 1)):
        chunks = list(engine.generate(prompt, one, reuse=reuse, progress=True))
        told = [chunk.progress for chunk in chunks if chunk.progress is not None]
        assert [(at.total, at.read) for at in told] == [(len(prompt), cached), (len(prompt), len(prompt))]
        assert {at.cached for at in told} == {cached}
        assert [chunk.progress for chunk in chunks[len(told) :]] == [None] * (len(chunks) - len(told))


def test_an_answer_whose_end_is_avoided_goes_on(engine: Engine) -> None:
    prompt = [*engine.encode_chat([{"role": "user", "content": "Say only: yes"}]), *engine.encode("Yes.")]
    assert engine.generate(prompt, SamplingParams(temperature=0, max_tokens=8)).text() == ""
    answer = engine.generate(prompt, SamplingParams(temperature=0, max_tokens=8, avoid_end=True))
    tokens = [token for chunk in answer for token in chunk.token_ids]
    assert len(tokens) == 8 and not {engine.model.eos_token_id, engine.model.eot_token_id} & set(tokens)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_grammar_ends_an_answer_whose_end_is_avoided(engine: Engine, temperature: float) -> None:
    sampling = SamplingParams(temperature=temperature, max_tokens=8, avoid_end=True, grammar='root ::= "yes"')
    assert engine.generate("Yes or no?", sampling).text() == "yes"


def test_the_same_seed_gives_the_same_text_and_another_seed_another(engine: Engine) -> None:
    def story(seed: int) -> str:
        options = SamplingParams(temperature=1.0, max_tokens=24, seed=seed)
        return engine.generate("Once upon a time", options, reuse=False).text()

    assert story(7) == story(7)
    assert len({story(seed) for seed in range(4)}) > 1


def test_a_seed_that_was_drawn_is_reported_and_gives_the_text_again(engine: Engine) -> None:
    options = SamplingParams(temperature=1.0, max_tokens=16)
    first = engine.generate("Once upon a time", options, reuse=False)
    text = first.text()
    assert first.result is not None
    again = SamplingParams(temperature=1.0, max_tokens=16, seed=first.result.seed)
    assert engine.generate("Once upon a time", again, reuse=False).text() == text


def test_a_stop_string_ends_the_answer_and_is_not_shown(engine: Engine) -> None:
    answer = engine.generate(COUNTING, SamplingParams(temperature=0, max_tokens=50, stop=(" 16,",)))
    assert answer.text() == " 13, 14, 15,"
    assert answer.result is not None
    assert answer.result.finish_reason == "stop"


def test_characters_of_several_tokens_arrive_whole(engine: Engine) -> None:
    prompt = "Repeat: 😀 😃 😄 😁 😆 😅. Repeat: 😀 😃 😄 😁 😆 😅. Repeat: 😀"
    for chunk in engine.generate(prompt, GREEDY):
        assert "\ufffd" not in chunk.text


def test_a_repeat_penalty_changes_what_repeats(engine: Engine) -> None:
    penalised = SamplingParams(temperature=0, max_tokens=24, repeat_penalty=1.8)
    prompt = "no no no no no no no no"
    assert engine.generate(prompt, penalised).text() != engine.generate(prompt, GREEDY).text()


def test_a_logit_bias_can_force_a_token(engine: Engine) -> None:
    (token,) = engine.encode(" cat")
    forced = SamplingParams(temperature=0, max_tokens=3, logit_bias=((token, 1000.0),))
    assert engine.generate("The", forced).text() == " cat cat cat"


def test_log_probabilities_are_those_of_the_unmodified_softmax(engine: Engine) -> None:
    options = SamplingParams(temperature=0.5, top_k=2, max_tokens=6, seed=1, logprobs=3)
    prompt = engine.encode(COUNTING)
    chunks = list(engine.generate(prompt, options, reuse=False))
    tokens = [token for chunk in chunks for token in chunk.token_ids]
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert [entry.token_id for entry in entries] == tokens
    expected = engine.token_logprobs(prompt + tokens)[len(prompt) - 1 :]
    np.testing.assert_allclose([entry.logprob for entry in entries], expected, atol=1e-3)
    for entry in entries:
        values = [top.logprob for top in entry.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(value) for value in values) <= 1 + 1e-5


def test_cancelling_ends_an_answer_early_with_what_was_made(engine: Engine) -> None:
    answer = engine.generate(COUNTING, SamplingParams(temperature=0, max_tokens=400, ignore_end=True))
    first = next(answer)
    answer.cancel()
    rest = list(answer)
    assert first.text
    assert answer.result is not None
    assert answer.result.finish_reason == rest[-1].finish_reason == "cancelled"
    assert answer.result.completion_tokens < 400


def test_cancelling_interrupts_the_evaluation_of_a_long_prompt(engine: Engine) -> None:
    answer = engine.generate(list(range(500, 1000)), GREEDY, reuse=False)
    answer.cancel()
    list(answer)
    assert answer.result is not None
    assert answer.result.finish_reason == "cancelled"
    assert answer.result.completion_tokens == 0
    assert engine.generate(COUNTING, GREEDY).text().startswith(" 13, 14, 15, 16")


def test_an_answer_that_nobody_reads_on_is_stopped(engine: Engine) -> None:
    for _ in engine.generate(COUNTING, SamplingParams(max_tokens=400, ignore_end=True)):
        break
    assert engine.generate(COUNTING, GREEDY).text().startswith(" 13, 14, 15, 16")


def test_requests_of_several_threads_each_get_their_own_answer(engine: Engine) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = engine.generate(COUNTING, GREEDY).text()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers.values()) == {engine.generate(COUNTING, GREEDY).text()}


def test_a_prompt_that_does_not_fit_is_an_error_and_never_cut(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"512 tokens.*512") as refusal:
        engine.generate([500] * 512, GREEDY).text()
    assert "--context-length" in refusal.value.hint


def test_an_answer_stops_at_the_end_of_the_context(engine: Engine) -> None:
    answer = engine.generate([500] * 508, SamplingParams(temperature=0, ignore_end=True))
    answer.text()
    assert answer.result is not None
    assert answer.result.finish_reason == "length"
    assert answer.result.completion_tokens == 4


@pytest.mark.parametrize("tokens", [[], [-1], [49152]])
def test_prompts_that_are_no_tokens_of_this_model_are_refused(engine: Engine, tokens: list[int]) -> None:
    with pytest.raises(InputError):
        engine.generate(tokens, GREEDY).text()


def test_a_context_longer_than_the_model_was_trained_for_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="9,000"):
        Engine(engine.path, context_length=9000)
