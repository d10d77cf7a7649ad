"""One measurement from end to end: a subject is opened, timed, asked its tasks, and told as one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomoat.base.digests import sha256_file
from nomoat.base.progress import Progress
from nomoat.base.settings import Settings
from nomoat.measure.comparison import compare_tasks
from nomoat.measure.machine import describe_machine
from nomoat.measure.speed import SpeedPlan, measure_memory, measure_speed
from nomoat.measure.subject import Subject, SubjectName
from nomoat.measure.tasks import Task, built_in_tasks, question_tasks, text_task
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.machine_load import OtherLoad
from nomoat.store.store import Store, StoredModel

__all__ = ["BUSY_CORES", "Plan", "compared", "measure"]

BUSY_CORES = 0.25
"""Cores that other programs may use before a report says that its times are too slow."""
_CONTEXT_TOKENS = 2048
_SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """What to measure: names of `tasks`, the user's own files, and how thoroughly."""

    names: tuple[str, ...]
    text: Path | None = None
    questions: Path | None = None
    quick: bool = False
    threads: int | None = None

    def tasks(self, progress: Progress) -> list[Task]:
        """The tasks of quality; reads the user's files, so that what is wrong with them shows at once."""
        tasks = built_in_tasks(self.names, self.quick)
        if self.text is not None and "text" in self.names:
            tasks.append(text_task(self.text, progress, self.quick))
        if self.questions is not None and "questions" in self.names:
            tasks += question_tasks(self.questions, self.quick)
        return tasks

    @property
    def speed(self) -> SpeedPlan | None:
        """How to time it; None where speed is not asked for."""
        if "speed" not in self.names:
            return None
        return SpeedPlan.quick() if self.quick else SpeedPlan()


def measure(
    name: SubjectName, plan: Plan, tasks: Sequence[Task], settings: Settings, progress: Progress,
    resolve: Callable[[str], StoredModel],
) -> dict[str, Any]:  # fmt: skip
    """The report of one subject, as in `report.json`; `resolve` finds its model. Raises what the engine raises."""
    model, load = resolve(name.model), OtherLoad()
    # What was answered before must not make a measurement faster, nor stay behind of it.
    settings = replace(settings, kv_cache_bytes=0, history=False)
    trained = model.context_length or _CONTEXT_TOKENS
    with Engine(model, context_length=min(_CONTEXT_TOKENS, trained), threads=plan.threads, settings=settings,
                progress=progress) as engine:  # fmt: skip
        for ref in name.adapters:
            engine.check_adapter(ref)
        for line in engine.notices:
            progress.say(line)
        subject = Subject(engine, name.adapters)
        adapters = [_adapter(ref, model, settings) for ref in name.adapters]
        speed = measure_speed(subject, plan.speed, progress) if plan.speed else None
        results = [task.run(subject, progress).as_json() for task in tasks]
        memory = measure_memory(subject, sum(adapter["bytes"] for adapter in adapters))
    return {
        "schema": _SCHEMA, "name": str(name), "model": _model(model), "adapters": adapters,
        "machine": describe_machine(), "other_load_cores": round(load.cores(), 2),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"), "quick": plan.quick,
        "speed": speed, "memory": memory, "tasks": results, "versus": None, "comparison": [], "notes": [],
    }  # fmt: skip


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The report `after` with `before` beside it: `versus`, `comparison` and `notes` are filled in."""
    differences, notes = compare_tasks(before["tasks"], after["tasks"])
    plain = {**before, "versus": None, "comparison": [], "notes": []}
    if before["machine"] != after["machine"]:
        notes.append("the two were timed on different machines")
    return {**after, "versus": plain, "comparison": [part.as_json() for part in differences], "notes": notes}


def _model(model: StoredModel) -> dict[str, Any]:
    return {
        "name": model.name, "digest": model.digest, "architecture": model.architecture,
        "parameters": model.parameters, "quantisation": model.quantisation, "bytes": model.size_bytes,
    }  # fmt: skip


def _adapter(ref: AdapterRef, model: StoredModel, settings: Settings) -> dict[str, Any]:
    file = Store(settings.home, settings).adapter_file(ref.path, model)
    return {
        "path": str(ref.path), "scale": ref.scale, "bytes": file.stat().st_size, "digest": sha256_file(file)
    }  # fmt: skip
