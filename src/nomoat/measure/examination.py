"""The same held-out questions before and after training, answered by the engine that will serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nomoat.base.progress import Progress
from nomoat.measure.exact_match import ExactReport, questions_from_rows, score
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.tune.dataset import read_rows
from nomoat.tune.rows import Question

__all__ = ["Examination"]

_MOST_QUESTIONS = 200  # a tour is not to spend its minutes on asking
_ANSWER = SamplingParams(max_tokens=32, temperature=0.0)


class Examination:
    """A witness of `nomoat.tune.pipeline.tune`: asks when the dataset is ready, and again with the adapter.

    `before_report` and `after_report` hold what came of it; both are None until asked.
    """

    def __init__(self, model_path: Path, progress: Progress) -> None:
        self._model_path, self._progress = model_path, progress
        self._questions: list[Question] = []
        self.before_report: ExactReport | None = None
        self.after_report: ExactReport | None = None

    def before(self, dataset: Path) -> None:
        """Ask the base model the held-out questions of a dataset folder."""
        questions = questions_from_rows(read_rows(dataset, "valid"))
        step = max(1, -(-len(questions) // _MOST_QUESTIONS))
        self._questions = questions[::step]
        self.before_report = self._ask(None)
        self._say(self.before_report, "before")

    def after(self, adapter: Path) -> None:
        """Ask again with the adapter that was trained."""
        self.after_report = self._ask(adapter)
        self._say(self.after_report, "after")

    def as_json(self) -> dict[str, Any]:
        """`exact` before and after with intervals, the reason where there is none, and every answer."""
        before, after = self.before_report, self.after_report
        if before is None or after is None:
            return {}
        return {
            "exact": {"before": _share(before), "after": _share(after)},
            "samples": _samples(before, after),
        }

    def _ask(self, adapter: Path | None) -> ExactReport:
        if not self._questions:
            return score([], lambda question: "")
        adapters = [AdapterRef(adapter)] if adapter else []
        with Engine(self._model_path, context_length=1024) as engine:

            def answer(question: Question) -> str:
                system = [{"role": "system", "content": question.system}] if question.system else []
                messages = [*system, {"role": "user", "content": question.question}]
                return engine.chat(messages, _ANSWER, adapters).text()

            return score(self._questions, answer, self._progress)

    def _say(self, report: ExactReport, when: str) -> None:
        if report.exact is None:
            self._progress.say(f"held-out questions {when}: none ({report.reason})")
        else:
            right = sum(item.exact for item in report.items)
            self._progress.say(f"held-out questions {when}: {right} of {report.n} right ({report.exact:.0%})")


def _share(report: ExactReport) -> dict[str, Any]:
    interval = report.interval
    return {
        "exact": report.exact, "n": report.n, "low": interval.low if interval else None,
        "high": interval.high if interval else None, "reason": report.reason,
    }  # fmt: skip


def _samples(before: ExactReport, after: ExactReport) -> list[dict[str, Any]]:
    return [
        {
            "question": old.question.question, "value": old.question.value, "before": old.answer.strip(),
            "after": new.answer.strip(), "exact_before": old.exact, "exact_after": new.exact,
        }
        for old, new in zip(before.items, after.items, strict=True)
    ]  # fmt: skip
