"""Questions from JSONL: one object per line, in one of three forms. A bad line is an error with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.tune.rows import Question

__all__ = ["ChoiceQuestion", "Completion", "QuestionFile", "json_lines", "read_questions"]

_FORMS = '{"question", "answer"}, {"question", "choices", "gold"} or {"prompt", "completion"}'
_HINT = f"each line is {_FORMS}; see docs/how-to/measure.md"


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with its choices; `gold` is the place of the right one, from 0."""

    question: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Completion:
    """A text and how it goes on: measured by how likely the model finds that."""

    prompt: str
    completion: str


@dataclass
class QuestionFile:
    """The lines of a file, by form."""

    answers: list[Question] = field(default_factory=list)
    choices: list[ChoiceQuestion] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


def read_questions(path: Path) -> QuestionFile:
    """Read a file of questions.

    Raises `NotFoundError`; `BadFileError` with the line's number for a line that is no question; `InputError`
    for a file without any.
    """
    content = QuestionFile()
    for number, record in json_lines(path):
        try:
            _add(content, record)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise BadFileError(path, f"line {number}", problem, _HINT) from error
    if not (content.answers or content.choices or content.completions):
        raise InputError(f"{path}: no questions in it", _HINT)
    return content


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line number, object)` of each line that is not blank. Raises as `read_questions`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError(path, f"byte {error.start}", "is not UTF-8", "save it as UTF-8") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"{path}: no such file", "name a JSONL file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadFileError(path, f"line {number}", f"is no JSON ({error})", _HINT) from error
        if not isinstance(record, dict):
            raise BadFileError(path, f"line {number}", "is no JSON object", _HINT)
        yield number, record


def _add(content: QuestionFile, record: dict[str, Any]) -> None:
    if "choices" in record:
        content.choices.append(_choice(record))
    elif "prompt" in record or "completion" in record:
        content.completions.append(Completion(_text(record, "prompt"), _text(record, "completion")))
    else:
        system = _text(record, "system") if "system" in record else None
        content.answers.append(Question(_text(record, "question"), _text(record, "answer"), system=system))


def _choice(record: dict[str, Any]) -> ChoiceQuestion:
    question, choices, gold = _text(record, "question"), record["choices"], record["gold"]
    if not isinstance(choices, list) or len(choices) < 2 or not all(_is_text(choice) for choice in choices):
        raise ValueError("'choices' must be a list of two or more texts")
    if len(set(choices)) < len(choices):
        raise ValueError("'choices' holds the same text twice")
    if isinstance(gold, str) and gold in choices:
        gold = choices.index(gold)
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise ValueError(f"'gold' must be a place from 0 to {len(choices) - 1}, or one of the choices")
    return ChoiceQuestion(question, tuple(choices), gold)


def _text(record: dict[str, Any], key: str) -> str:
    value = record[key]
    if not _is_text(value):
        raise ValueError(f"{key!r} must be a text that is not empty")
    return str(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
