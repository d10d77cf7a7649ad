"""Everything a report tells, read once from the result and the run's folder. Formats nothing, draws nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.errors import BadFileError
from nomoat.base.manifests import read_manifest
from nomoat.formats.gguf_file import read_gguf
from nomoat.store.embedded import EMBEDDED_DIGEST
from nomoat.tune.export import GGUF_NAME
from nomoat.tune.intervals import Interval
from nomoat.tune.result import TuneResult
from nomoat.tune.trainer import METRICS_NAME

__all__ = ["Curve", "ReportFacts", "Sample", "gather_facts", "read_curve"]

_MOST_CURVE_POINTS = 400  # more than a picture can show; metrics.jsonl keeps every step
_HUB = "https://huggingface.co/"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# The embedded file does not say where it comes from.
_KNOWN_HUB_IDS = {EMBEDDED_DIGEST: "HuggingFaceTB/SmolLM2-135M-Instruct"}


@dataclass(frozen=True)
class Curve:
    """The course of a run, at most a few hundred points: each is the mean of the steps up to `steps`."""

    steps: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    learning_rate: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """`loss` under a moving mean over a tenth of the run.

        Centred, and narrower where the run begins, because the loss falls steeply there. At the end the window
        reaches back only, so that the last value is no single step's.
        """
        places = np.arange(len(self.loss))
        reach = np.minimum(max(1, len(self.loss) // 20), places)
        first, last = places - reach, np.minimum(places + reach, len(self.loss) - 1)
        sums = np.concatenate([[0.0], np.cumsum(self.loss)])
        smooth: np.ndarray = (sums[last + 1] - sums[first]) / (last + 1 - first)
        return smooth

    def as_json(self) -> dict[str, list[float]]:
        """Columns of equal length."""
        return {name: column.tolist() for name, column in vars(self).items()}


@dataclass(frozen=True)
class Sample:
    """A held-out question with the answers of both models; this is the owner's text."""

    question: str
    value: str
    before: str
    after: str
    exact_before: bool
    exact_after: bool


@dataclass(frozen=True)
class ReportFacts:
    """`exact` is the share of right answers before and after; `general` bits per byte of text that is not the
    owner's, before and after, with the paired change. Both are None where nobody measured them.
    """

    result: TuneResult
    curve: Curve
    dataset: dict[str, Any]
    hub_id: str | None
    adapter_bytes: int
    exact: tuple[Interval, Interval] | None
    general: tuple[Interval, Interval, Interval] | None
    samples: tuple[Sample, ...]
    date: str

    @property
    def base_label(self) -> str:
        """The base's name; of one that was given as a file, the file's name without its folders."""
        return Path(self.result.request.base.name).name

    @property
    def source_label(self) -> str:
        """The name of the folder or file that was learned from; the owner's, so not for the card."""
        return self.result.request.source.resolve().name or "your text"

    def as_json(self) -> dict[str, Any]:
        """The content of report.json: the fields of `nomoat tune --json` and what only the report holds."""
        before, after = self.result.before.by_document, self.result.after.by_document
        content = {
            **self.result.as_json(), "date": self.date, "config": asdict(self.result.request.config),
            "plan": self.result.plan.as_json(), "dataset": self.dataset, "base_model": self.hub_id,
            "adapter_bytes": self.adapter_bytes, "curve": self.curve.as_json(),
            "documents": {
                "bits_per_byte_before": before[0].tolist(), "bits_per_byte_after": after[0].tolist(),
                "bytes": after[1].tolist(),
            },
            "exact": _pair_as_json(self.exact), "general": _pair_as_json(self.general),
            "samples": [asdict(sample) for sample in self.samples],
        }  # fmt: skip
        return _finite(content)


def gather_facts(result: TuneResult, extras: dict[str, Any] | None = None) -> ReportFacts:
    """Read the run's folder. `extras` are measurements of others; the keys known are those of `write_report`.

    Raises `BadFileError` or `NotFoundError` where the folder is damaged.
    """
    request, given = result.request, extras or {}
    gguf_path = request.out / GGUF_NAME
    return ReportFacts(
        result=result,
        curve=read_curve(request.out / METRICS_NAME),
        dataset=_counts(request.out / "dataset"),
        hub_id=_hub_id(result),
        adapter_bytes=gguf_path.stat().st_size if gguf_path.is_file() else 0,
        exact=_exact(given.get("exact")),
        general=_general(given.get("general")),
        samples=tuple(_sample(sample) for sample in given.get("samples") or ()),
        date=datetime.now(UTC).date().isoformat(),
    )


def read_curve(path: Path, most_points: int = _MOST_CURVE_POINTS) -> Curve:
    """The curve of a metrics.jsonl. Raises `BadFileError` with the line that is none of ours."""
    names = ("step", "tokens", "loss", "learning_rate")
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                rows.append([float(record[name]) for name in names])
            except (ValueError, KeyError, TypeError) as error:
                raise BadFileError(path, f"line {number}", f"is no step of a run ({error})",
                                   "the adapter is kept; run again with --resume") from error  # fmt: skip
    table = np.array(rows, dtype=np.float64).reshape(-1, len(names))
    edges = np.unique(np.linspace(0, len(table), min(len(table), most_points) + 1).astype(int))
    parts = [table[start:end] for start, end in pairwise(edges)]
    last = np.array([part[-1] for part in parts]).reshape(-1, len(names))
    mean = np.array([part.mean(axis=0) for part in parts]).reshape(-1, len(names))
    return Curve(last[:, 0], last[:, 1], mean[:, 2], last[:, 3])


def _counts(dataset: Path) -> dict[str, Any]:
    """The dataset's counts, without names of files: those are the owner's."""
    details = read_manifest(dataset, "dataset").details
    names = ("train", "valid", "duplicates_removed", "held_out_removed_from_train", "documents_cut_into_sections",
             "valid_share", "seed")  # fmt: skip
    counts = {name: details[name] for name in names if name in details}
    return {**counts, "owners_split": bool(details.get("held_out_files"))}


def _hub_id(result: TuneResult) -> str | None:
    """The base's id on the Hugging Face Hub, if its digest is known or its file says so; never a guess.

    `general.base_model` does not serve: it names what the base itself was fine-tuned from.
    """
    base = result.request.base
    for digest in (base.digest, base.parent_digest):
        if digest in _KNOWN_HUB_IDS:
            return _KNOWN_HUB_IDS[digest]
    metadata = read_gguf(base.path).metadata if base.path.is_file() else {}
    for key in ("general.source.huggingface.repository", "general.source.repo_url", "general.repo_url"):
        text = metadata.get(key)
        name = text.removeprefix(_HUB).strip("/") if isinstance(text, str) else ""
        if _HUB_ID.fullmatch(name):
            return name
    return None


def _sample(extra: dict[str, Any]) -> Sample:
    return Sample(**{field.name: extra[field.name] for field in fields(Sample)})


def _exact(extra: dict[str, Any] | None) -> tuple[Interval, Interval] | None:
    if not extra:
        return None
    before, after = (
        Interval(part["exact"], part.get("low"), part.get("high"), part.get("n") or 0) if part else None
        for part in (extra.get("before"), extra.get("after"))
    )
    if before is None or after is None or before.estimate is None or after.estimate is None:
        return None
    return before, after


def _general(extra: dict[str, Any] | None) -> tuple[Interval, Interval, Interval] | None:
    if not extra:
        return None
    n = extra["before"].get("documents", 0)
    before, after = (
        Interval(part["bits_per_byte"], *_bounds(part.get("bits_per_byte_interval")), n)
        for part in (extra["before"], extra["after"])
    )
    change = extra["change_bits_per_byte"]
    return before, after, Interval(change["value"], *_bounds(change.get("interval")), n)


def _bounds(pair: Sequence[float | None] | None) -> tuple[float | None, float | None]:
    return (pair[0], pair[1]) if pair else (None, None)


def _pair_as_json(intervals: Sequence[Interval] | None) -> dict[str, Any] | None:
    if intervals is None:
        return None
    return {name: asdict(item) for name, item in zip(("before", "after", "change"), intervals, strict=False)}


def _finite(content: Any) -> Any:
    """NaN and infinity are no JSON: null."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
