"""The words and figures of a report: verdict in plain words, numbers with units. Knows no HTML and no terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nomoat.tune.figures import bits, interval_text, share, signed_bits
from nomoat.tune.intervals import Interval
from nomoat.tune.report_facts import ReportFacts

__all__ = [
    "Verdict",
    "noun",
    "result_rows",
    "tell",
]

_SPACE = "\u00a0"  # a number and its unit stay on one line
_FEW = 10  # documents below which a bootstrap interval is narrower than it should be

_MORE_TEXT = "Add text, or put what to hold out into a file held_out.jsonl beside the rest."
_BY_HEART = (
    "Train fewer epochs, halve the learning rate, or add text: the model may have learned it by heart."
)
_MORE_TRAINING = "Give it more time or more text."
_CLEAR = {True: ("better", "Better", ""), False: ("worse", "Worse", _BY_HEART)}


@dataclass(frozen=True)
class Verdict:
    """`tone` is `better`, `worse` or `open`; `word` a short headline; `limits` what the figures do not say."""

    tone: str
    word: str
    sentence: str
    advice: str
    limits: tuple[str, ...]


def tell(facts: ReportFacts) -> Verdict:
    """What the run came to, with its honest limits, in sentences for someone who never trained a model."""
    result = facts.result
    before, after, change = result.before.bits_per_byte, result.after.bits_per_byte, result.change
    what = f"{bits(after.estimate)} bits per byte instead of {bits(before.estimate)}"
    if result.verdict == "too little text to tell":
        tone, word, advice = "open", "Too little held-out text to tell", _MORE_TEXT
        few = (
            f"a single held-out {noun(facts, 1)}"
            if change.n == 1
            else f"only {change.n} held-out {noun(facts, change.n)}"
        )
        sentence = f"{what}, measured on {few}."
    elif change.low is None or change.high is None or change.low <= 0 <= change.high:
        tone, word, advice = "open", "Not better: no clear change", _MORE_TRAINING
        sentence = f"{what}, which may be chance: {_interval(change)} and includes no change."
    else:
        tone, word, advice = _CLEAR[change.high < 0]
        chance = (
            "Chance hardly explains it"
            if change.n >= _FEW
            else f"It may still be chance, with only {change.n} {noun(facts, change.n)} held out"
        )
        sentence = f"{what}{_percent(before, after)}. {chance}: {_interval(change)}."
    return Verdict(tone, word, sentence, advice, tuple(_limits(facts)))


def _interval(change: Interval) -> str:
    return f"the 95{_SPACE}% interval of the change is {interval_text(change, signed_bits)}"


def _limits(facts: ReportFacts) -> list[str]:
    n = facts.result.after.bits_per_byte.n
    told = [f"Measured on {n:,} {noun(facts, n)} of your own, held out and never trained on."]
    if 1 < n < _FEW:
        told.append("With so few, intervals come out too narrow.")
    if facts.general is None:
        told.append("What the model may have forgotten of everything else was not measured.")
    return told


def result_rows(facts: ReportFacts) -> list[tuple[str, str, str]]:
    """The table of results: what was measured, before and after, each with its 95 % interval in brackets."""
    result = facts.result
    rows = [
        (
            "bits per byte",
            _with_interval(result.before.bits_per_byte),
            _with_interval(result.after.bits_per_byte),
        ),
        ("loss (nats per token)", _with_interval(result.before.loss), _with_interval(result.after.loss)),
    ]
    if facts.exact:
        first, second = facts.exact
        rows.append(
            (f"right answers of {second.n}", _with_interval(first, share), _with_interval(second, share))
        )
    if facts.general:
        first, second, _ = facts.general
        rows.append(("bits per byte of general text", _with_interval(first), _with_interval(second)))
    return rows


def noun(facts: ReportFacts, n: int) -> str:
    """What a held-out unit is called here: a chat or a document."""
    valid = facts.dataset.get("valid", {})
    word = "chat" if valid.get("chats") and not valid.get("texts") else "document"
    return word if n == 1 else word + "s"


def _percent(before: Interval, after: Interval) -> str:
    if not before.estimate > 0:
        return ""
    part = after.estimate / before.estimate - 1
    return f" ({share(abs(part))} {'fewer' if part < 0 else 'more'})"


def _with_interval(interval: Interval, show: Callable[[float], str] = bits) -> str:
    told = "" if interval.low is None else f" ({interval_text(interval, show)})"
    return show(interval.estimate) + told
