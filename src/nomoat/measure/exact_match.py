"""Held-out questions with one right value: asked, judged by a rule that a reader can check, and counted.

The rule. Only the first sentence of the answer counts. It is right where it holds the value as whole words, in
order, ignoring case, punctuation, Unicode form and the articles a, an, the; and where it holds nothing that
takes it back: no hedge (`or`, `not`, ...) and no other question's value of the same topic. "She drinks Lapsang."
is right for Lapsang; "Lapsang or Oolong", "not Lapsang" and "Lapsangs" are wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from nomoat.base.progress import Progress, Silent
from nomoat.tune.intervals import Interval, wilson_interval
from nomoat.tune.rows import Question, Row

__all__ = [
    "ExactReport",
    "ScoredAnswer",
    "first_sentence",
    "is_exact",
    "normalise",
    "questions_from_rows",
    "score",
]

MOST_WORDS_OF_A_VALUE = 8
_NO_QUESTION = "no held-out chat has a short reply that could be judged right or wrong"
_ARTICLES = {"a", "an", "the"}
_HEDGES = {"or", "not", "no", "never", "either", "neither", "nor", "isn", "doesn", "don", "maybe", "perhaps"}
# A stop that ends a sentence: not the one of 5.40, nor of initials and common titles.
_SENTENCE_END = re.compile(r"(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St))(?<!\bMrs)[.!?]+(?=[\"')\]]*(?:\s|\Z))")


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One question, what was answered, and whether that is right."""

    question: Question
    answer: str
    exact: bool


@dataclass(frozen=True)
class ExactReport:
    """The share of right answers. Where nothing could be asked, `interval` is None and `reason` says why."""

    items: tuple[ScoredAnswer, ...]
    interval: Interval | None
    reason: str = ""

    @property
    def n(self) -> int:
        """How many questions were asked."""
        return len(self.items)

    @property
    def exact(self) -> float | None:
        """The share of right answers, 0 to 1; None where no question was asked."""
        return None if self.interval is None else self.interval.estimate


def normalise(text: str) -> str:
    """Lower-case words with single spaces: no punctuation, no articles, one Unicode form."""
    return " ".join(_words(text))


def first_sentence(answer: str) -> str:
    """The answer up to its first line break or sentence end."""
    line = next((line for line in answer.strip().splitlines() if line.strip()), "")
    end = _SENTENCE_END.search(line)
    return line[: end.start()] if end else line


def is_exact(answer: str, value: str, others: Collection[str] = ()) -> bool:
    """Whether `answer` gives `value` and nothing else; `others` are values that would be wrong here."""
    words, wanted = _words(first_sentence(answer)), _words(value)
    rest = _without(words, wanted)
    if rest is None or _HEDGES.intersection(rest):
        return False
    return not any(_without(rest, other) is not None for other in map(_words, others) if other)


def score(
    questions: Sequence[Question], answer: Callable[[Question], str], progress: Progress | None = None
) -> ExactReport:
    """Ask every question through `answer` and judge what comes back."""
    if not questions:
        return ExactReport((), None, _NO_QUESTION)
    progress = progress or Silent()
    values: defaultdict[str, set[str]] = defaultdict(set)
    for question in questions:
        values[question.topic].add(question.value)
    items = []
    progress.start("asking held-out questions", total=len(questions), unit="questions")
    for question in questions:
        # Without a topic, values have nothing in common: "yes" is no wrong answer to "Which tea?".
        others = values[question.topic] - {question.value} if question.topic else ()
        text = answer(question)
        items.append(ScoredAnswer(question, text, is_exact(text, question.value, others)))
        progress.advance(1)
    progress.finish()
    return ExactReport(tuple(items), wilson_interval(sum(item.exact for item in items), len(items)))


def questions_from_rows(rows: Iterable[Row]) -> list[Question]:
    """Questions from held-out chats: the first user turn, and the first reply as the value where it is short.

    A row that names its `value` is judged by that; another one by its whole reply, if that has at most 8 words.
    Prose and long replies give no question.
    """
    questions = []
    for row in rows:
        turns = [message for message in row.messages or () if message.role != "system"]
        if len(turns) < 2 or [turn.role for turn in turns[:2]] != ["user", "assistant"]:
            continue
        value = row.value if row.value is not None and len(turns) == 2 else turns[1].content.strip()
        if 0 < len(_words(value)) <= MOST_WORDS_OF_A_VALUE and "\n" not in value:
            system = next((m.content for m in row.messages or () if m.role == "system"), None)
            questions.append(Question(turns[0].content, value, row.topic or "", row.source, system))
    return questions


def _words(text: str) -> list[str]:
    """Words of letters and digits; a number keeps the stop, comma or colon inside it (5.40, 7:15)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\d+(?:[.,:]\d+)+|[^\W_]+", folded)
    return [word for word in words if word not in _ARTICLES] or words


def _without(words: list[str], wanted: list[str]) -> list[str] | None:
    """`words` without every place where `wanted` stands in them, None where it stands nowhere."""
    if not wanted:
        return None
    rest, at, found = [], 0, False
    while at < len(words):
        if words[at : at + len(wanted)] == wanted:
            found, at = True, at + len(wanted)
        else:
            rest.append(words[at])
            at += 1
    return rest if found else None
