"""Cost curves of verification kept between runs, per machine, model, threads and build of llama.cpp.

As with thread timings, a measurement on a busy machine is used but not kept: it says little of the machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import NomoatError
from nomoat.base.files import atomic_write_json
from nomoat.run.drafts.cost_curve import CostCurve, measure_curve
from nomoat.run.machine_load import OtherLoad
from nomoat.run.thread_record import processor_name

__all__ = ["cost_curve"]

_BUSY_CORES = 0.2


def cost_curve(decode: Callable[[int], float], threads: int, folder: Path, model_path: Path) -> CostCurve:
    """The curve for `threads` threads: from the record in `folder`, else measured (about a second).

    `decode(n)` returns the seconds of a decode of n tokens with logits for all of them.
    """
    record = folder / f"{_key(threads, model_path)}.json"
    known = _read(record)
    if known is not None:
        return known
    load = OtherLoad()
    curve = measure_curve(decode)
    other = load.cores()
    if other <= _BUSY_CORES:
        _write(record, curve, threads, other, model_path)
    return curve


def _key(threads: int, model_path: Path) -> str:
    status = model_path.stat()
    build = importlib.metadata.version("llama_cpp_python")
    machine = (platform.node(), processor_name(), threads)
    return sha256_bytes(repr((machine, build, model_path.name, status.st_size, status.st_mtime_ns)).encode())[
        7:31
    ]


def _read(record: Path) -> CostCurve | None:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return CostCurve({int(n): float(seconds) for n, seconds in content["verify_seconds"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return None  # absent or damaged: a record is only a saved second


def _write(record: Path, curve: CostCurve, threads: int, other_cores: float, model_path: Path) -> None:
    content = {
        "verify_seconds": curve.points(),
        "threads": threads,
        "other_load_cores": round(other_cores, 3),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.node()}: {processor_name()}",
        "model": str(model_path),
    }
    try:
        atomic_write_json(record, content)
    except (OSError, NomoatError):
        pass  # a full disk must not stop an answer; the next start measures again
