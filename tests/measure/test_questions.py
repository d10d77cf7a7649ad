"""Files of questions: three forms, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.measure.questions import read_questions
from nomoat.measure.tasks import question_tasks

ANSWER = {"question": "Which tea?", "answer": "Lapsang"}
CHOICE = {"question": "Which?", "choices": ["a", "b", "c"], "gold": 2}
COMPLETION = {"prompt": "One, two,", "completion": " three"}


def _file(folder: Path, *lines: Any) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_the_three_forms_may_stand_in_one_file(tmp_path: Path) -> None:
    path = _file(tmp_path, ANSWER, "", CHOICE, {**CHOICE, "gold": "a"}, COMPLETION)
    content = read_questions(path)
    assert [question.value for question in content.answers] == ["Lapsang"]
    assert [question.gold for question in content.choices] == [2, 0]
    assert content.completions[0].completion == " three"
    assert [task.name for task in question_tasks(path)] == [
        "questions.answer", "questions.choice", "questions.completion",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        ({"question": "Why?"}, "answer"),
        ({"question": "Why?", "answer": " "}, "answer"),
        ({"question": 5, "answer": "x"}, "question"),
        ({"prompt": "x"}, "completion"),
        ({**CHOICE, "gold": 3}, "gold"),
        ({**CHOICE, "gold": -1}, "gold"),
        ({**CHOICE, "gold": True}, "gold"),
        ({**CHOICE, "gold": "d"}, "gold"),
        ({"question": "Which?", "choices": ["a", "b"]}, "gold"),
        ({**CHOICE, "choices": ["a"]}, "choices"),
        ({**CHOICE, "choices": ["a", "a", "b"]}, "twice"),
        ({**CHOICE, "choices": "abc"}, "choices"),
    ],
)
def test_a_bad_line_is_an_error_with_its_place(tmp_path: Path, line: Any, told: str) -> None:
    path = _file(tmp_path, ANSWER, line)
    with pytest.raises(BadFileError, match=told) as caught:
        read_questions(path)
    assert caught.value.place == "line 2"
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_no_file_no_questions_and_no_utf8_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_questions(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="no questions"):
        read_questions(_file(tmp_path, "", ""))
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"question": "\xe4"}')
    with pytest.raises(BadFileError, match="UTF-8"):
        read_questions(path)
