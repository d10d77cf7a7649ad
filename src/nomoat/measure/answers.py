"""Exact match: questions with one right value, answered in the chat template and judged by the existing rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.base.progress import Progress
from nomoat.measure.exact_match import is_exact
from nomoat.measure.results import Item, TaskResult, item_id, share_metric
from nomoat.measure.subject import Subject
from nomoat.tune.rows import Question

__all__ = ["AskedQuestion", "ExactMatch"]


@dataclass(frozen=True)
class AskedQuestion:
    """A question and the values that would make an answer wrong where they stand beside the right one."""

    question: Question
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExactMatch:
    """`exact_match`: the first sentence of a greedy answer gives the value and nothing that takes it back."""

    name: str
    questions: Sequence[AskedQuestion]

    def run(self, subject: Subject, progress: Progress) -> TaskResult:
        """Ask every question."""
        progress.start(f"{self.name}: asking", len(self.questions), "questions")
        items = []
        for asked in self.questions:
            question = asked.question
            text = subject.answer(question.question, question.system)
            exact = is_exact(text, question.value, asked.wrong)
            shown = {"question": question.question, "value": question.value, "answer": text.strip()}
            name = item_id([question.question, question.value, question.system])
            items.append(Item(name, {"exact_match": float(exact)}, shown=shown))
            progress.advance(1)
        progress.finish()
        settings = {"questions": len(items), "temperature": 0, "max_tokens": 32}
        if subject.thinks:
            settings["thinking"] = False
        return TaskResult(self.name, (share_metric("exact_match", items),), tuple(items), settings)
