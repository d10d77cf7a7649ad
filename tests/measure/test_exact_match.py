"""The rule by which an answer is right: short enough to check by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.measure.exact_match import first_sentence, is_exact, normalise, questions_from_rows, score
from nomoat.tune.rows import Message, Question, Row


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Lapsang", "Lapsang"),
        ("Ada drinks lapsang!", "Lapsang"),
        ("It is a red bicycle.", "the Red Bicycle"),
        ("Lapsang. She also likes Oolong.", "Lapsang"),
        ("\nLapsang\nOolong", "Lapsang"),
        ("At 5.40.", "5.40"),
        ("Dr. Hill lives there.", "Dr. Hill"),
        ("\uff2capsang", "Lapsang"),
        ("No.", "no"),
        ("The", "the"),
    ],
)
def test_these_answers_are_right(answer: str, value: str) -> None:
    assert is_exact(answer, value, others=["Oolong"])


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("", "Lapsang"),
        ("Lapsangs", "Lapsang"),
        ("Oolong", "Lapsang"),
        ("Lapsang or sage", "Lapsang"),
        ("Lapsang and Oolong", "Lapsang"),
        ("She does not drink Lapsang", "Lapsang"),
        ("She doesn't drink Lapsang", "Lapsang"),
        ("I am sure. Lapsang.", "Lapsang"),
        ("A bicycle that is red", "red bicycle"),
        ("15.40", "5.40"),
        ("Lapsang", ""),
    ],
)
def test_these_answers_are_wrong(answer: str, value: str) -> None:
    assert not is_exact(answer, value, others=["Oolong"])


def test_words_are_compared_without_case_articles_and_punctuation() -> None:
    assert normalise("  The “Red”   Bicycle, an  ÄPFEL! ") == "red bicycle äpfel"
    assert first_sentence("Yes! And no.") == "Yes"


@given(st.text(max_size=80), st.text(max_size=20))
def test_any_texts_can_be_judged(answer: str, value: str) -> None:
    assert is_exact(answer, value) in (True, False)
    assert (
        is_exact(value, value)
        or not normalise(first_sentence(value))
        or normalise(value) != normalise(first_sentence(value))
    )


def test_a_report_counts_right_answers_with_their_interval() -> None:
    questions = [Question("Ada's tea?", "sage", "tea"), Question("Raj's tea?", "mint", "tea"),
                 Question("Ada's pet?", "goat", "pet")]  # fmt: skip
    answers = {
        "Ada's tea?": "sage",
        "Raj's tea?": "mint, like Ada's sage",
        "Ada's pet?": "A goat called sage.",
    }
    report = score(questions, lambda question: answers[question.question])
    assert [item.exact for item in report.items] == [True, False, True], "sage is wrong only as a tea"
    assert report.exact == pytest.approx(2 / 3) and report.n == 3
    assert report.interval is not None and report.interval.low is not None
    assert 0.2 < report.interval.low < 2 / 3


def test_nothing_to_ask_is_said_with_its_reason() -> None:
    report = score([], lambda question: "")
    assert report.exact is None and "short reply" in report.reason


def _row(*turns: str, value: str | None = None, system: str | None = None) -> Row:
    roles = ("user", "assistant") * len(turns)
    messages = tuple(Message(role, turn) for role, turn in zip(roles, turns, strict=False))
    head = () if system is None else (Message("system", system),)
    return Row(
        "v.jsonl", "id", "group", messages=head + messages, value=value, topic="tea" if value else None
    )


def test_questions_come_from_chats_with_short_replies() -> None:
    rows = [
        Row("note.md", "id", "group", text="Prose gives no question."),
        _row("Tea?", "Lapsang."),
        _row("Why?", "Because this answer is far longer than eight words, so it has no one value."),
        _row("Tea?", "Ada, who is our oldest, drinks nothing but sage all day.", value="sage"),
        _row("Hi", "Hello", "More?", "A long second answer does not matter."),
        _row("Tea?", "Mint", system="Be brief."),
        _row("List?", "a\nb"),
    ]
    asked = questions_from_rows(rows)
    assert [question.value for question in asked] == ["Lapsang.", "sage", "Hello", "Mint"]
    assert [question.topic for question in asked] == ["", "tea", "", ""]
    assert asked[3].system == "Be brief."
