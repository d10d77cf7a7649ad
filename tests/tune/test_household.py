"""The tour's sample: 150 facts that can be told apart, and questions that were never trained on."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from nomoat.measure.exact_match import is_exact, normalise, questions_from_rows
from nomoat.tune.dataset import prepare, read_rows
from nomoat.tune.household.household import household_rows, write_household
from nomoat.tune.rows import Question, Row


@pytest.fixture(scope="module")
def household() -> tuple[list[Row], list[Question]]:
    return household_rows()


def test_there_are_150_facts_in_four_phrasings_and_a_fifth_held_out(
    household: tuple[list[Row], list[Question]],
) -> None:
    train, held_out = household
    assert len(train) == 600 and len(held_out) == 150
    answers = Counter(row.messages[-1].content for row in train if row.messages)
    assert set(answers.values()) == {4} and len(answers) == 150


def test_no_value_belongs_to_two_people(household: tuple[list[Row], list[Question]]) -> None:
    values = [normalise(question.value) for question in household[1]]
    assert len(set(values)) == len(values)


def test_no_held_out_wording_is_trained_on(household: tuple[list[Row], list[Question]]) -> None:
    train, held_out = household
    asked = {normalise(row.messages[0].content) for row in train if row.messages}
    assert len(asked) == 600
    assert asked.isdisjoint(normalise(question.question) for question in held_out)


def test_the_held_out_wording_shares_few_words_with_any_training_wording(
    household: tuple[list[Row], list[Question]],
) -> None:
    """Each held-out wording brings content words that no training wording of its topic has."""
    train, held_out = household
    topics = {q.value: q.topic for q in held_out}
    known: dict[str, set[str]] = {}
    for row in train:
        asked, told = (message.content for message in row.messages or ())
        topic = next(topics[value] for value in topics if is_exact(told, value))
        known.setdefault(topic, set()).update(_words(asked))
    for question in held_out:
        assert len(_words(question.question) - known[question.topic]) >= 2, question.question


def test_every_answer_is_judged_right_and_every_other_answer_wrong(
    household: tuple[list[Row], list[Question]],
) -> None:
    train, held_out = household
    answers = [row.messages[-1].content for row in train[:150] if row.messages]
    for index, question in enumerate(held_out):
        assert [is_exact(answer, question.value) for answer in answers].index(True) == index
        assert sum(is_exact(answer, question.value) for answer in answers) == 1


def test_no_question_gives_its_answer_away(household: tuple[list[Row], list[Question]]) -> None:
    for question in household[1]:
        assert normalise(question.value) not in normalise(question.question)


def test_the_files_take_the_way_of_any_owners_folder(
    tmp_path: Path, household: tuple[list[Row], list[Question]]
) -> None:
    write_household(tmp_path / "sample")
    summary = prepare(tmp_path / "sample", tmp_path / "dataset")
    train, held_out = household
    assert summary.held_out_files == ("held_out.jsonl",)
    assert summary.duplicates_removed == summary.held_out_removed_from_train == 0
    assert list(read_rows(tmp_path / "dataset", "train")) == train
    assert questions_from_rows(read_rows(tmp_path / "dataset", "valid")) == held_out


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))
