"""Which servers run on this machine: one small file for each, written when it answers, removed when it ends.

    home/run/servers/<pid>.json

A server that was killed cannot remove its file, and its number may be another program's by now. So a record
names the process by when it started, too, and a reader believes no other.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from nomoat.base.files import atomic_write_json

__all__ = ["ServerRecord", "process_identity", "read_records", "remove_record", "write_record"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ServerRecord:
    """One running server. `started` is in Unix seconds; `threads` is 0 where they are measured and vary.

    `identity` tells the process from a later one with the same number; `write_record` fills it in.
    """

    url: str
    pid: int
    models: tuple[str, ...]
    started: float = field(default_factory=time.time)
    threads: int = 0
    identity: str = ""


def write_record(home: Path, record: ServerRecord) -> None:
    """Let `nomoat ps` find the server of `record`, in the store at `home`. Raises as `atomic_write_json`."""
    record = replace(record, identity=process_identity(record.pid))
    atomic_write_json(_path(home, record.pid), asdict(record))


def remove_record(home: Path, pid: int) -> None:
    """The server `pid` ends. Nothing happens where it has no record."""
    _path(home, pid).unlink(missing_ok=True)


def read_records(home: Path) -> list[ServerRecord]:
    """Servers that run now, oldest first. Files of those that do not are deleted."""
    found = []
    for path in (home / "run" / "servers").glob("*.json"):
        record = _read(path)
        if record is not None and record.identity and process_identity(record.pid) == record.identity:
            found.append(record)
        else:
            with contextlib.suppress(OSError):  # somebody else's folder: it is only skipped
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda record: (record.started, record.pid))


def process_identity(pid: int) -> str:
    """When process `pid` started, in the system's own words; empty where there is none, or it has ended.

    A process that has ended but was not waited for counts as ended.
    """
    try:
        # The name, in brackets, may hold anything; the state and the start, in clock ticks, follow it.
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else f"{_BOOT_ID.read_text().strip()} {numbers[18]}"
    except (OSError, ValueError, IndexError):
        return "" if Path("/proc/self/stat").exists() else _identity_by_ps(pid)


def _identity_by_ps(pid: int) -> str:
    """The same where there is no /proc, as on macOS."""
    argv = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _path(home: Path, pid: int) -> Path:
    return home / "run" / "servers" / f"{pid}.json"


def _read(path: Path) -> ServerRecord | None:
    """The record in `path`, None where it is damaged or of another version of nomoat."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ServerRecord(**{**content, "models": tuple(content["models"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
