"""What was measured of an adapter before and after training, as its card tells it: each figure with its proof.

A card says what its owner wants it to say. Some of its figures stand in the signed provenance of the training run,
too: there they can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nomoat.base.errors import InputError
from nomoat.base.plain_text import one_line
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.opened import Opened, read_text
from nomoat.server.hub.pages.words import plural
from nomoat.share.names import is_digest
from nomoat.share.registry.lineage.lineage import Edge
from nomoat.share.trust.provenance import PROVENANCE_NAME, read_provenance

__all__ = ["Figure", "Score", "ScoreState", "Scores", "scores_of"]

ScoreState = Literal["verified", "declared", "differs"]
"""The verified provenance has the same, has nothing of it (or there is none), has something else."""
_MOST_PROVENANCE_BYTES = 4 << 20
_LONGEST_VERDICT = 120
_LARGEST = 1e12
_Told = str | tuple["Figure", "Figure"]


@dataclass(frozen=True)
class Figure:
    """A number in three digits, or a word; its 95 % interval where there is one. Empty: not measured."""

    value: str = ""
    interval: str = ""

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclass(frozen=True)
class Score:
    """A measured value, or a verdict, before and after training."""

    what: str
    before: Figure
    after: Figure
    text: str
    """What it was measured on."""
    size: str
    """How much of that there was; empty where it is not told."""
    state: ScoreState


@dataclass(frozen=True)
class Scores:
    """The rows, and the digest of the dataset that the held-out text belongs to (empty where it is not told)."""

    rows: tuple[Score, ...]
    dataset: str
    dataset_state: ScoreState

    @property
    def states(self) -> set[ScoreState]:
        """Those that occur."""
        return {row.state for row in self.rows} | ({self.dataset_state} if self.dataset else set())


def scores_of(hub: Hub, opened: Opened, edges: Sequence[Edge]) -> Scores:
    """The scores in the card of a repository at its newest commit, whose edges of the lineage are `edges`."""
    own = _mapping(opened.repo.card.get("nomoat"))
    rows = [*_held_out(own, _signed_results(hub, opened, edges)), *_only_told(own)]
    dataset = str(_mapping(own.get("dataset")).get("digest") or "")
    proven = (each.base_digest for each in edges if each.relation == "dataset" and each.state == "verified")
    state = _state(dataset, next(proven, ""))
    return Scores(tuple(rows), dataset if rows and is_digest(dataset) else "", state)


def _held_out(own: Mapping[str, Any], signed: Mapping[str, Any]) -> Iterator[Score]:
    """What training itself measured on text that it held out, and its verdict."""
    told = _mapping(own.get("scores"))
    size = _size(told, "documents", "document")
    as_long = size == _size(signed, "documents", "document")
    for key, what in (("bits_per_byte", "bits per byte"), ("loss", "loss (nats per token)")):
        pair = _pair(told, key)
        if all(pair):
            yield Score(what, *pair, "held-out text", size, _state(pair, _pair(signed, key), as_long))
    if verdict := _line(told.get("verdict")):
        state = _state(verdict, _line(signed.get("verdict")), as_long)
        yield Score("verdict", Figure(), Figure(verdict), "held-out text", size, state)


def _only_told(own: Mapping[str, Any]) -> Iterator[Score]:
    """What was measured after the training run: its provenance does not know it."""
    exact = _mapping(_mapping(own.get("scores")).get("exact"))
    yield from _told(exact, "share of right answers", "held-out text", "question")
    yield from _told(_mapping(own.get("forgetting")), "bits per byte", "general text", "document")
    audit = _mapping(own.get("audit"))
    tested, memorised = (_whole(audit.get(name)) for name in ("tested", "memorised"))
    if tested and memorised is not None:
        found, size = Figure(plural(memorised, "text")), plural(tested, "text")
        yield Score("continued word for word", Figure(), found, "training text", size, "declared")


def _told(parts: Mapping[str, Any], what: str, text: str, noun: str) -> Iterator[Score]:
    pair = _pair(parts, "estimate")
    if all(pair):
        yield Score(what, *pair, text, _size(parts, "n", noun), "declared")


def _signed_results(hub: Hub, opened: Opened, edges: Sequence[Edge]) -> Mapping[str, Any]:
    """The results in the provenance of the training run, where it is verified."""
    entry = opened.find(PROVENANCE_NAME)
    if entry is None or not any(each.path == PROVENANCE_NAME and each.state == "verified" for each in edges):
        return {}
    try:
        # By whom it is signed was found out when the edge was made.
        found = read_provenance((read_text(hub, entry, _MOST_PROVENANCE_BYTES) or "").encode(), ())
    except InputError:
        return {}
    return _mapping(_mapping(_mapping(found.statement.get("predicate")).get("nomoat")).get("results"))


def _state(told: _Told, proven: _Told, as_long: bool = True) -> ScoreState:
    if not any(proven):
        return "declared"
    return "verified" if told == proven and as_long else "differs"


def _pair(parts: Mapping[str, Any], key: str) -> tuple[Figure, Figure]:
    return _figure(_mapping(parts.get("before")), key), _figure(_mapping(parts.get("after")), key)


def _figure(part: Mapping[str, Any], key: str) -> Figure:
    value, bounds = part.get(key), part.get(f"{key}_interval", [part.get("low"), part.get("high")])
    if not _is_number(value):
        return Figure()
    if isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds)):
        return Figure(f"{value:.3g}", f"{bounds[0]:.3g} to {bounds[1]:.3g}")
    return Figure(f"{value:.3g}")


def _line(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return one_line(text)[:_LONGEST_VERDICT]


def _size(parts: Mapping[str, Any], key: str, noun: str) -> str:
    """How much was measured; empty where it is not told."""
    number = _whole(_mapping(parts.get("after")).get(key))
    return plural(number, noun) if number else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_number(value: Any) -> bool:
    # JSON has whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
