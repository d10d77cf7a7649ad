"""How well a text is predicted: bits per byte and perplexities, with a sliding window over each document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nomoat.base.progress import Progress
from nomoat.measure.results import Item, Metric, TaskResult, item_id, mean_metric
from nomoat.measure.subject import Subject
from nomoat.tune.intervals import Interval

__all__ = ["Perplexity", "windows"]

_WINDOW_TOKENS = 1024


@dataclass(frozen=True)
class Perplexity:
    """Predict `documents`. Every token is scored once, after at least `window - stride` tokens where there are so many.

    Bits per byte compares models with different vocabularies; perplexity per token does not.
    """

    name: str
    documents: Sequence[str]
    window_tokens: int = _WINDOW_TOKENS

    def run(self, subject: Subject, progress: Progress) -> TaskResult:
        """Score every document."""
        window = min(self.window_tokens, subject.context_length)
        stride = max(1, window // 2)
        progress.start(f"{self.name}: predicting text", sum(map(len, self.documents)), "characters")
        items, n_tokens = [], 0
        for number, text in enumerate(self.documents, 1):
            tokens = subject.encode(text)
            nats, n_bytes = _nats(subject, tokens, window, stride), len(text.encode())
            value = nats / math.log(2) / n_bytes
            shown = {"document": number, "tokens": len(tokens), "words": len(text.split()), "nats": nats}
            items.append(Item(item_id(text), {"bits_per_byte": value}, float(n_bytes), shown))
            n_tokens += len(tokens)
            progress.advance(len(text))
        progress.finish()
        settings = {
            "window_tokens": window,
            "stride_tokens": stride,
            "documents": len(items),
            "tokens": n_tokens,
        }
        return TaskResult(self.name, _metrics(items), tuple(items), settings)


def windows(n_tokens: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """`(begin, first, end)`: read tokens `begin` to `end`, count those from `first` on. Every token counts once."""
    begin = first = 0
    while first < n_tokens:
        end = min(begin + window, n_tokens)
        yield begin, first, end
        first, begin = end, begin + stride


def _nats(subject: Subject, tokens: list[int], window: int, stride: int) -> float:
    total = 0.0
    # One place of the window is for the token before the first.
    for begin, first, end in windows(len(tokens), window - 1, stride):
        logprobs = subject.logprobs([subject.prefix_token, *tokens[begin:end]])
        total -= float(logprobs[first - begin :].sum())
    return total


def _metrics(items: Sequence[Item]) -> tuple[Metric, ...]:
    """Bits per byte with its interval; the perplexities are the same loss, told per byte, word and token."""
    bits = mean_metric("bits_per_byte", items)
    nats = sum(item.shown["nats"] for item in items)
    words, tokens = (sum(item.shown[unit] for item in items) for unit in ("words", "tokens"))
    part, n = bits.interval, len(items)
    low, high = (None if end is None else 2**end for end in (part.low, part.high))
    return (
        bits,
        Metric("byte_perplexity", Interval(2**part.estimate, low, high, n)),
        Metric("word_perplexity", Interval(_exp(nats, words), None, None, n)),
        Metric("perplexity", Interval(_exp(nats, tokens), None, None, n)),
    )


def _exp(nats: float, count: int) -> float:
    mean = nats / count if count else math.nan
    return math.exp(mean) if mean < 700 else math.inf  # one long line without spaces is one word
