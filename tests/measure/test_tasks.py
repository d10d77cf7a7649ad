"""Tasks on the real model, against an independent computation and against arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from choice_oracle import FLOAT_NATS, Q4_1_NATS, OracleAnswer, assert_same_choice

from nomoat.base.errors import InputError
from nomoat.base.progress import Silent
from nomoat.base.settings import Settings
from nomoat.measure.answers import AskedQuestion, ExactMatch
from nomoat.measure.completions import Completions
from nomoat.measure.multiple_choice import MultipleChoice, choose
from nomoat.measure.perplexity import Perplexity, windows
from nomoat.measure.questions import ChoiceQuestion, Completion
from nomoat.measure.speed import SpeedPlan, measure_memory, measure_speed, spread
from nomoat.measure.subject import Subject, parse_subject
from nomoat.measure.tasks import TASK_NAMES, built_in_tasks, passages, pick, text_task
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.tune.rows import Question
from thinking_model import write_thinking_model


def test_built_in_questions_are_balanced_and_sound() -> None:
    (task,) = built_in_tasks(("knowledge",))
    assert isinstance(task, MultipleChoice)
    questions = task.questions
    assert len(questions) == 60
    assert [sum(question.gold == place for question in questions) for place in range(4)] == [15] * 4
    assert all(len(set(question.choices)) == 4 for question in questions)
    assert len({question.question for question in questions}) == 60
    longest = sum(len(q.choices[q.gold]) == max(map(len, q.choices)) for q in questions)
    assert longest < 40, "the right choice must not stand out by its length"


def _assert_agrees(
    subject: Subject, questions: Sequence[ChoiceQuestion], oracle: list[OracleAnswer], nats: float
) -> None:
    result = MultipleChoice("knowledge", questions).run(subject, Silent())
    for item, answer in zip(result.items, oracle, strict=True):
        chosen = item.shown["chosen"], item.shown["chosen_norm"]
        assert_same_choice(item.shown["loglikelihoods"], answer, chosen, nats)


def test_multiple_choice_agrees_with_transformers(
    subject: Subject, questions: Sequence[ChoiceQuestion], oracle: list[OracleAnswer]
) -> None:
    _assert_agrees(subject, questions, oracle, Q4_1_NATS)


def test_multiple_choice_agrees_closely_where_the_arithmetic_is_the_same(
    float_model: Path, settings: Settings, questions: Sequence[ChoiceQuestion], oracle: list[OracleAnswer]
) -> None:
    with Engine(float_model, context_length=512, settings=settings) as engine:
        _assert_agrees(Subject(engine), questions, oracle, FLOAT_NATS)


def test_a_model_that_thinks_is_asked_without(smollm2_path: Path, tmp_path: Path, settings: Settings) -> None:
    """Else the first sentence of every answer would be the beginning of a thought, and none of them right."""
    model = write_thinking_model(smollm2_path, tmp_path / "thinker.gguf")
    asked = AskedQuestion(Question("Which city is the capital of France?", "Paris"))
    with Engine(model, context_length=512, settings=settings) as engine:
        result = ExactMatch("short_answers", [asked]).run(Subject(engine), Silent())
        prompt = engine.template.render([{"role": "user", "content": asked.question.question}], True)
        closed = engine.generate(
            engine.encode(f"{prompt}<think>\n</think>\n"),
            SamplingParams(temperature=0, max_tokens=32),
            reuse=False,
        )
        assert result.items[0].shown["answer"] == closed.text().strip()
    assert result.settings["thinking"] is False


def test_the_embedded_model_knows_more_than_chance(
    subject: Subject, questions: Sequence[ChoiceQuestion]
) -> None:
    result = MultipleChoice("knowledge", questions).run(subject, Silent()).as_json()
    acc = result["metrics"]["acc"]
    assert acc["chance"] == 0.25
    assert acc["value"] > 0.5
    assert acc["above_chance"] == pytest.approx((acc["value"] - 0.25) / 0.75)
    assert acc["interval"][0] < acc["value"] < acc["interval"][1]


def test_length_counts_in_bytes_and_the_first_of_equals_wins() -> None:
    assert choose([-3.0, -4.0], ["ab", "ä" * 4]) == (0, 1)
    assert choose([-2.0, -2.0], ["ab", "cd"]) == (0, 0)


@pytest.mark.parametrize(("n", "window", "stride"), [(1, 8, 4), (8, 8, 4), (9, 8, 4), (50, 8, 3), (7, 1, 1)])
def test_every_token_is_scored_once_with_enough_before_it(n: int, window: int, stride: int) -> None:
    scored: list[int] = []
    for begin, first, end in windows(n, window, stride):
        assert end - begin <= window
        assert first - begin >= min(first, window - stride)
        scored += range(first, end)
    assert scored == list(range(n))


def test_a_sliding_window_gives_the_plain_sum_where_all_fits(subject: Subject) -> None:
    text = passages()[0]
    tokens = [subject.prefix_token, *subject.encode(text)]
    (item,) = Perplexity("text", [text]).run(subject, Silent()).items
    plain = -float(subject.logprobs(tokens).sum())
    assert item.shown["nats"] == pytest.approx(plain, rel=1e-6)
    assert item.values["bits_per_byte"] == pytest.approx(plain / math.log(2) / len(text.encode()))
    (cut,) = Perplexity("text", [text], window_tokens=32).run(subject, Silent()).items
    assert cut.shown["nats"] > item.shown["nats"], "less to go by"


def test_the_perplexities_are_one_loss_in_other_units(subject: Subject) -> None:
    result = Perplexity("text", passages()[:3]).run(subject, Silent())
    metrics = {metric.name: metric.interval.estimate for metric in result.metrics}
    nats = sum(item.shown["nats"] for item in result.items)
    assert metrics["byte_perplexity"] == pytest.approx(2 ** metrics["bits_per_byte"])
    assert metrics["word_perplexity"] == pytest.approx(
        math.exp(nats / sum(len(text.split()) for text in passages()[:3]))
    )
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / result.settings["tokens"]))


def test_control_tokens_in_a_text_are_only_text(subject: Subject) -> None:
    assert len(subject.encode("<|im_end|>")) > 1


def test_likely_completions_cost_less(subject: Subject) -> None:
    pairs = [Completion("One, two, three,", " four"), Completion("One, two, three,", " zebra")]
    likely, odd = Completions("questions.completion", pairs).run(subject, Silent()).items
    assert likely.values["bits_per_byte"] < odd.values["bits_per_byte"]


def test_space_at_the_end_of_a_prompt_moves_to_the_completion(subject: Subject) -> None:
    assert subject.loglikelihood("One, two, ", "three") == subject.loglikelihood("One, two,", " three")
    assert subject.loglikelihood("", "Hello") < 0


def test_choices_of_the_users_own_are_scored_too(subject: Subject) -> None:
    own = MultipleChoice("questions.choice", [ChoiceQuestion("Is the sky blue?", ("yes", "no"), 0)])
    (item,) = own.run(subject, Silent()).items
    assert len(item.shown["loglikelihoods"]) == 2


def test_text_is_read_as_for_training(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ndate: 2026-11-01\n---\nFirst note.")
    (tmp_path / "b.txt").write_text("Second note.")
    task = text_task(tmp_path, Silent())
    assert isinstance(task, Perplexity)
    assert [text.strip() for text in task.documents] == ["First note.", "Second note."]
    (tmp_path / "c.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    )
    with pytest.raises(InputError, match="chats only"):
        text_task(tmp_path / "c.jsonl", Silent())


def test_tasks_are_picked_by_name() -> None:
    assert pick(None) == TASK_NAMES
    assert pick("knowledge, speed") == ("speed", "knowledge")
    with pytest.raises(InputError, match="hellaswag"):
        pick("speed,hellaswag")
    with pytest.raises(InputError, match="no task"):
        pick(" , ")


def test_a_subject_is_a_model_and_adapters(tmp_path: Path) -> None:
    name = parse_subject("smollm2+me:0.8+work")
    assert name.model == "smollm2"
    assert name.adapters == (AdapterRef("me", 0.8), AdapterRef("work"))
    assert str(name) == "smollm2 + me:0.8 + work"
    path = tmp_path / "a+b.gguf"
    path.touch()
    assert parse_subject(str(path)).adapters == ()
    assert str(parse_subject(str(path))) == "a+b.gguf"


def test_speed_has_the_promised_fields(subject: Subject) -> None:
    speed = measure_speed(subject, SpeedPlan((16, 100_000), 4, 8, 3, 1), Silent())
    (prompt,) = speed["prompt"]
    assert prompt["tokens"] == 16, "what does not fit the context is left out"
    assert prompt["tokens_per_second"]["rounds"] == 3
    assert prompt["ttft_seconds"]["median"] > 0
    low, high = speed["decode"]["tokens_per_second"]["quartiles"]
    assert 0 < low <= speed["decode"]["tokens_per_second"]["median"] <= high
    assert speed["load_seconds"] == {**spread([1.0]), "median": speed["load_seconds"]["median"]}
    assert speed["energy"]["joules_per_token"] or speed["energy"]["note"]
    memory = measure_memory(subject, 5)
    assert memory["peak_rss_bytes"] > memory["file_bytes"] / 2
    assert memory["kv_bytes_per_1000_tokens"] == 1000 * 30 * 3 * (64 + 64) * 2
    assert memory["adapter_bytes"] == 5
