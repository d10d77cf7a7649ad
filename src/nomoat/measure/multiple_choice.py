"""Multiple choice by log-likelihood: the model answers with whichever choice it finds likeliest after the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nomoat.base.progress import Progress
from nomoat.measure.questions import ChoiceQuestion
from nomoat.measure.results import Item, TaskResult, item_id, share_metric
from nomoat.measure.subject import Subject

__all__ = ["MultipleChoice", "choose", "prompt_of"]


@dataclass(frozen=True)
class MultipleChoice:
    """`acc`: the choice with the highest log-likelihood; `acc_norm`: with the highest per byte of the choice.

    The second does not favour short choices. `chance` is what guessing gets.
    """

    name: str
    questions: Sequence[ChoiceQuestion]

    def run(self, subject: Subject, progress: Progress) -> TaskResult:
        """Score every choice of every question."""
        progress.start(f"{self.name}: multiple choice", len(self.questions), "questions")
        items = []
        for question in self.questions:
            scores = [subject.loglikelihood(prompt_of(question), f" {choice}") for choice in question.choices]
            items.append(_item(question, scores))
            progress.advance(1)
        progress.finish()
        chance = float(np.mean([1 / len(question.choices) for question in self.questions]))
        metrics = tuple(share_metric(name, items, chance) for name in ("acc", "acc_norm"))
        settings = {"questions": len(items), "prompt": "Question: ...\nAnswer:"}
        return TaskResult(self.name, metrics, tuple(items), settings)


def prompt_of(question: ChoiceQuestion) -> str:
    """What stands before each choice, as in lm_eval's ARC task."""
    return f"Question: {question.question}\nAnswer:"


def choose(scores: Sequence[float], choices: Sequence[str]) -> tuple[int, int]:
    """Places of the likeliest choice and of the likeliest per UTF-8 byte; the first of equals."""
    lengths = [len(choice.encode()) for choice in choices]
    return int(np.argmax(scores)), int(np.argmax(np.asarray(scores) / lengths))


def _item(question: ChoiceQuestion, scores: list[float]) -> Item:
    plain, per_byte = choose(scores, question.choices)
    values = {"acc": float(plain == question.gold), "acc_norm": float(per_byte == question.gold)}
    shown = {"question": question.question, "choices": list(question.choices), "gold": question.gold,
             "chosen": plain, "chosen_norm": per_byte, "loglikelihoods": scores}  # fmt: skip
    name = item_id([question.question, list(question.choices), question.gold])
    return Item(name, values, shown=shown)
