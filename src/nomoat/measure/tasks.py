"""Tasks by name: those that come with nomoat, and those made of the user's own text and questions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Protocol, TypeVar

from nomoat.base.errors import InputError
from nomoat.base.progress import Progress
from nomoat.measure.answers import AskedQuestion, ExactMatch
from nomoat.measure.completions import Completions
from nomoat.measure.multiple_choice import MultipleChoice
from nomoat.measure.perplexity import Perplexity
from nomoat.measure.questions import ChoiceQuestion, json_lines, read_questions
from nomoat.measure.results import TaskResult
from nomoat.measure.subject import Subject
from nomoat.tune.importers.walk import import_path
from nomoat.tune.rows import Question

__all__ = ["TASK_NAMES", "Task", "built_in_tasks", "passages", "pick", "question_tasks", "text_task"]

TASK_NAMES = ("speed", "passages", "knowledge", "short_answers", "text", "questions")
"""What `--tasks` takes. `text` and `questions` need a file; `speed` is no task of quality."""
_T = TypeVar("_T")
_DATA = resources.files("nomoat.measure") / "data"
_QUICK_ITEMS, _QUICK_CHARACTERS = 20, 20_000


class Task(Protocol):
    """Something that a subject can be better or worse at."""

    @property
    def name(self) -> str:
        """As in `--tasks` and in the report."""

    def run(self, subject: Subject, progress: Progress) -> TaskResult:
        """Measure it."""


def pick(names: str | None) -> tuple[str, ...]:
    """The tasks of a comma-separated list, in the usual order; None picks all. Raises `InputError`."""
    if names is None:
        return TASK_NAMES
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in TASK_NAMES]
    if unknown or not wanted:
        problem = f"there is no task {unknown[0]!r}" if unknown else "no task is named"
        raise InputError(problem, f"choose from {', '.join(TASK_NAMES)}")
    return tuple(name for name in TASK_NAMES if name in wanted)


def built_in_tasks(names: Sequence[str], quick: bool = False) -> list[Task]:
    """Those of `passages`, `knowledge` and `short_answers` that are in `names`; `quick` takes a part of each."""
    tasks: list[Task] = []
    if "passages" in names:
        tasks.append(Perplexity("passages", _spread(passages(), 4) if quick else passages()))
    if "knowledge" in names:
        questions = [question for question, _ in _knowledge()]
        tasks.append(MultipleChoice("knowledge", _spread(questions, _QUICK_ITEMS) if quick else questions))
    if "short_answers" in names:
        asked = [_open(question) for question, is_open in _knowledge() if is_open]
        tasks.append(ExactMatch("short_answers", _spread(asked, _QUICK_ITEMS) if quick else asked))
    return tasks


def text_task(path: Path, progress: Progress, quick: bool = False) -> Task:
    """Predict the texts of a file or folder, read as `nomoat tune` reads them.

    Raises `NotFoundError`, `BadFileError`, and `InputError` where there are only chats or nothing at all.
    """
    texts = [document.text for document in import_path(path, progress) if document.text]
    if not texts:
        raise InputError(f"{path}: holds chats only, and no running text", "measure chats with --questions")
    if quick:
        texts = _spread(texts, max(1, len(texts) * _QUICK_CHARACTERS // sum(map(len, texts))))
        texts = [text[:_QUICK_CHARACTERS] for text in texts]
    return Perplexity("text", texts)


def question_tasks(path: Path, quick: bool = False) -> list[Task]:
    """One task for each form of question in the file; see `read_questions`."""
    content = read_questions(path)
    most = _QUICK_ITEMS if quick else len(content.answers) + len(content.choices) + len(content.completions)
    tasks: list[Task] = []
    if content.answers:
        asked = [AskedQuestion(question) for question in _spread(content.answers, most)]
        tasks.append(ExactMatch("questions.answer", asked))
    if content.choices:
        tasks.append(MultipleChoice("questions.choice", _spread(content.choices, most)))
    if content.completions:
        tasks.append(Completions("questions.completion", _spread(content.completions, most)))
    return tasks


def passages() -> list[str]:
    """Twelve short texts of different kinds, written for nomoat."""
    with resources.as_file(_DATA / "passages.jsonl") as path:
        return [record["text"] for _, record in json_lines(path)]


def _knowledge() -> list[tuple[ChoiceQuestion, bool]]:
    """Questions, and whether each can be asked without showing its choices."""
    with resources.as_file(_DATA / "knowledge.jsonl") as path:
        return [
            (ChoiceQuestion(line["question"], tuple(line["choices"]), line["gold"]), line.get("open", False))
            for _, line in json_lines(path)
        ]


def _open(question: ChoiceQuestion) -> AskedQuestion:
    wrong = tuple(choice for place, choice in enumerate(question.choices) if place != question.gold)
    return AskedQuestion(Question(question.question, question.choices[question.gold]), wrong)


def _spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of `items`, from all over the list."""
    return list(items[:: max(1, -(-len(items) // most))])
