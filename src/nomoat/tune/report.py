"""The report of a training run: report.json for programs, report.html for its owner, README.md as the model card.

report.html and report.json may quote the owner's text (sample answers); README.md, which goes along when an
adapter is shared, holds counts and figures only.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nomoat.base.files import atomic_write, atomic_write_json
from nomoat.tune.figures import bytes_text, duration, interval_text, share, signed_bits
from nomoat.tune.intervals import Interval
from nomoat.tune.report_card import card_text, counts_text
from nomoat.tune.report_charts import BITS, SHARE, Units, change_chart, interval_chart, loss_chart
from nomoat.tune.report_facts import ReportFacts, Sample, gather_facts
from nomoat.tune.report_text import noun, tell
from nomoat.tune.result import TuneResult

__all__ = ["run_command", "write_report"]

_NAMES = ("report.json", "report.html", "README.md")
_TEMPLATES = Path(__file__).parent / "report_templates"
_WIDE, _NARROW = 700.0, 330.0
_SAMPLES_SHOWN = 6  # the rest folds away


def write_report(result: TuneResult, extras: dict[str, Any] | None = None) -> tuple[str, ...]:
    """Write the three files into `result.request.out`, each in one step; returns their names for the manifest.

    `extras` are measurements that training itself does not make; every key is optional:

    - `exact`: `{"before": part, "after": part}` with `part = {"exact": share, "low", "high", "n"}`;
    - `samples`: list of `{"question", "value", "before", "after", "exact_before", "exact_after"}`;
    - `general`: forgetting: `before` and `after` with `bits_per_byte`, `bits_per_byte_interval`, `documents`,
      and `change_bits_per_byte` with `value` and `interval`, all on text that is not the owner's.

    Raises `DiskFullError`; `BadFileError` where the run's own files are damaged.
    """
    facts, out = gather_facts(result, extras), result.request.out
    atomic_write_json(out / _NAMES[0], facts.as_json())
    for name, text in ((_NAMES[1], _page(facts)), (_NAMES[2], card_text(facts))):
        # A folder's name need not be UTF-8, and a report must not fail at the end of an evening for that.
        atomic_write(out / name, text.encode("utf-8", "replace"))
    return _NAMES


def run_command(result: TuneResult) -> str:
    """The command that chats with the result, ready to paste into a shell."""
    request = result.request
    return f"nomoat run {shlex.quote(request.base.name)} --adapter {shlex.quote(str(request.out))}"


def _page(facts: ReportFacts) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    result = facts.result
    shown, folded = _picked(facts.samples)
    return environment.get_template("report.html.j2").render(
        facts=facts, result=result, config=result.request.config, base=result.request.base,
        verdict=tell(facts), tiles=_tiles(facts), pictures=_pictures(facts), documents=noun(facts, 2),
        document=noun(facts, 1),
        better=int((result.after.by_document[0] < result.before.by_document[0]).sum()),
        run=run_command(result), counts_text=counts_text, shown=shown, folded=folded,
        change_text=signed_bits(result.change.estimate), change_interval=interval_text(result.change, signed_bits),
        bytes_text=bytes_text, share=share, duration=duration, interval_text=interval_text, signed_bits=signed_bits,
    )  # fmt: skip


def _tiles(facts: ReportFacts) -> list[tuple[str, str, str]]:
    """(figure, unit, what it is) of the facts worth a glance."""
    result = facts.result
    return [
        (duration(result.seconds), "", "from text to adapter"),
        (f"{result.training.train_tokens:,}", "tokens", "trained on, padding not counted"),
        (
            f"{result.training.tokens_per_second:,.0f}",
            "tokens/s",
            f"training speed in {result.plan.precision}",
        ),
        (bytes_text(result.peak_memory_bytes), "", "most memory in use"),
        (bytes_text(facts.adapter_bytes), "", "size of the adapter"),
    ]


def _pictures(facts: ReportFacts) -> dict[str, Any]:
    """Name to (wide, narrow) SVG; only what was measured."""
    result = facts.result
    pictures = {
        "bits": _both(
            _intervals(result.before.bits_per_byte, result.after.bits_per_byte, BITS, "Held-out text"),
            "bits",
        )
    }
    if result.change.n > 1:
        first, second = result.before.by_document[0], result.after.by_document[0]
        unit = f"held-out {noun(facts, 2)}"
        pictures["change"] = _both(lambda n, w: change_chart(first, second, unit, n, w), "change")
    if len(facts.curve.loss):
        held_out = result.before.loss, result.after.loss
        pictures["loss"] = _both(lambda n, w: loss_chart(facts.curve, *held_out, n, w), "loss")
    if facts.exact:
        pictures["exact"] = _both(_intervals(*facts.exact, SHARE, "Right answers"), "exact")
    if facts.general:
        pictures["general"] = _both(_intervals(*facts.general[:2], BITS, "General text"), "general")
    return pictures


def _intervals(before: Interval, after: Interval, units: Units, title: str) -> Callable[[str, float], str]:
    return lambda name, width: interval_chart(before, after, units, f"{title}, before and after", name, width)


def _picked(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """A few from all over the list, for neighbours are alike; and all the others."""
    step = max(1, -(-len(samples) // _SAMPLES_SHOWN))
    return list(samples[::step]), [sample for place, sample in enumerate(samples) if place % step]


def _both(draw: Callable[[str, float], str], name: str) -> Sequence[Any]:
    from markupsafe import Markup

    # Built by an XML writer, so safe to insert as it is.
    return [Markup(draw(f"{name}-{kind}", width)) for kind, width in (("wide", _WIDE), ("narrow", _NARROW))]
