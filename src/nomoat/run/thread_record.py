"""Thread timings kept between runs, per machine and model, unless they were measured on a busy machine."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import NomoatError
from nomoat.base.files import atomic_write_json
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import measure_threads, thread_candidates

__all__ = ["ThreadRecord", "decode_timings", "processor_name", "recorded_timings"]

_BUSY_CORES = 0.2  # other programs used more than this many cores: the timings say little of the machine


@dataclass(frozen=True)
class ThreadRecord:
    """One measurement on this machine: seconds of a decode for each thread count, and of which model file."""

    model: str
    measured: str
    decode_seconds: dict[int, float]


def decode_timings(
    decode: Callable[[int], float], cores: int, folder: Path, model_path: Path
) -> dict[int, float]:
    """Seconds of a decode per thread count: from the record in `folder`, else measured (below a second).

    A measurement is recorded only when the machine was otherwise idle.
    """
    record = folder / f"{_key(cores, model_path)}.json"
    known = _read(record)
    if known:
        return known
    load = OtherLoad()
    timings = measure_threads(decode, thread_candidates(cores))
    other = load.cores()
    if other <= _BUSY_CORES:
        _write(record, timings, other, model_path)
    return timings


def recorded_timings(folder: Path) -> list[ThreadRecord]:
    """What is known of this machine, by model; records of other machines that share the folder are left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["machine"] == _machine() and (timings := _read(path)):
                found.append(ThreadRecord(str(content["model"]), str(content["measured"]), timings))
    return sorted(found, key=lambda record: (record.model, record.measured))


def processor_name() -> str:
    """The processor's model name, or what the platform says of it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _key(cores: int, model_path: Path) -> str:
    status = model_path.stat()
    parts = (platform.node(), processor_name(), cores, model_path.name, status.st_size, status.st_mtime_ns)
    return sha256_bytes(repr(parts).encode())[7:31]


def _machine() -> str:
    return f"{platform.node()}: {processor_name()}"


def _read(record: Path) -> dict[int, float]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {int(count): float(seconds) for count, seconds in content["decode_seconds"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # absent or damaged: a record is only a saved second


def _write(record: Path, timings: dict[int, float], other_cores: float, model_path: Path) -> None:
    content = {
        "decode_seconds": timings,
        "other_load_cores": round(other_cores, 3),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "model": str(model_path),
    }
    try:
        atomic_write_json(record, content)
    except (OSError, NomoatError):
        pass  # a full disk must not stop an answer; the next start measures again
