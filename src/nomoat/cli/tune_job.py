"""One training run from the command line: options to config, engine as judge, report, manifest.

The only place where training and serving meet; `nomoat tune` and `nomoat tour` both come through here.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from nomoat.base.errors import InputError, MissingExtraError
from nomoat.base.settings import Settings
from nomoat.base.sizes import parse_bytes
from nomoat.cli.interrupt import asked_to_stop

__all__ = ["build_config", "run_tune"]

_NICENESS = 5  # the owner's other work comes first


def build_config(options: dict[str, Any], recipe: Path | None) -> Any:
    """A `TuneConfig` from the recipe, overlaid by the options given on the command line."""
    _require_torch()
    from dataclasses import replace

    from nomoat.tune.config import TuneConfig, read_config

    config = read_config(recipe) if recipe else TuneConfig()
    given = {name: value for name, value in options.items() if value is not None}
    bounds = [name for name in ("epochs", "budget", "by", "max_steps") if name in given]
    if len(bounds) > 1:
        raise InputError(f"{' and '.join('--' + b.replace('_', '-') for b in bounds)} exclude each other",
                         "give one of them")  # fmt: skip
    if bounds:
        config = replace(config, epochs=None, max_steps=None, budget_seconds=None)
    return replace(config, **_renamed(given))


def run_tune(
    path: Path, base: str, out: Path, config: Any, *, resume: bool = False, skip_bad: bool = False,
    examine: bool = False, watched: bool = False,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Train, verify against the engine, write the report and the manifest.

    Unless somebody sits and waits for it (`watched`), the process takes a low priority.
    Returns the `TuneResult` and, with `examine`, what asking the held-out questions before and after came to.
    """
    _require_torch()
    from nomoat.cli.progress import TerminalProgress
    from nomoat.cli.tune_report import print_report
    from nomoat.measure.examination import Examination
    from nomoat.store.store import Store
    from nomoat.tune.pipeline import finish, tune
    from nomoat.tune.report import write_report
    from nomoat.tune.result import TuneRequest

    if not watched:
        os.nice(_NICENESS)
    progress, home = TerminalProgress(), Settings.from_environment().home
    model = Store(home).resolve(base, progress)
    examination = Examination(model.path, progress) if examine else None
    with asked_to_stop() as should_stop:
        request = TuneRequest(
            path, model, out, config, home / "cache" / "kernels", resume, skip_bad, should_stop
        )
        result = tune(request, progress, _engine_logits(model.path), examination)
    seen = examination.as_json() if examination else {}
    finish(result, write_report(result, seen))
    print_report(result, seen)
    return result, seen


def _engine_logits(model_path: Path) -> Any:
    """llama.cpp's logits through a worker process that lives only as long as it is asked."""
    from nomoat.run.adapters import AdapterRef
    from nomoat.run.engine import Engine

    def logits(tokens: list[int], adapter: Path | None) -> Any:
        with Engine(model_path, context_length=max(512, len(tokens) + 8)) as engine:
            return engine.logits(tokens, [AdapterRef(adapter, 1.0)] if adapter else [])

    return logits


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """Command-line names and spellings to fields of `TuneConfig`."""
    from nomoat.tune.planner import parse_budget, seconds_until

    fields = dict(given)
    if "budget" in fields:
        fields["budget_seconds"] = parse_budget(fields.pop("budget"))
    if "by" in fields:
        fields["budget_seconds"] = seconds_until(fields.pop("by"), datetime.now())
    if "alpha" in fields:
        fields["lora_alpha"] = fields.pop("alpha")
    if "memory" in fields:
        fields["memory_bytes"] = parse_bytes(fields.pop("memory"))
    if "target_modules" in fields:
        names = fields["target_modules"].split(",")
        fields["target_modules"] = tuple(name.strip() for name in names if name.strip())
    return fields


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingExtraError("tune", "torch")
