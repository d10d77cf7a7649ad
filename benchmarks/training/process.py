"""The process that measures: its memory, the versions it runs, and what it may use of the processor."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from nomoat.base.settings import Settings
from nomoat.store.embedded import find_embedded, missing_embedded

__all__ = [
    "embedded_model",
    "forget_peak_memory",
    "has_avx512",
    "in_child",
    "peak_memory_bytes",
    "restrict_to_avx2",
    "thread_settings",
    "versions",
]

# For torch's own kernels, for oneDNN and for MKL; each reads its variable when torch is loaded.
_AVX2_ONLY = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def peak_memory_bytes() -> int:
    """Most resident memory of this process since it began or last forgot, mapped file pages included.

    `ru_maxrss` alone would count what the parent had held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak_memory() -> None:
    """Let `peak_memory_bytes` count from what this process holds now; does nothing where the system cannot.

    How the benchmark itself makes a model is no cost of training it.
    """
    gc.collect()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        ctypes.CDLL(None).malloc_trim(0)
        reset.write_text("5")


def embedded_model() -> Path:
    """The embedded default model's file. Raises `NotFoundError` where it is not installed."""
    path = find_embedded(Settings.from_environment())
    if path is None:
        raise missing_embedded()
    return path


def in_child(program: Path, arguments: Sequence[str]) -> dict[str, float]:
    """Run `program` in a fresh process and return the JSON object it prints."""
    command = [sys.executable, str(program), *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(answer)


def has_avx512() -> bool:
    """Whether the processor has AVX512, whatever this process may use of it."""
    info = Path("/proc/cpuinfo")
    return info.is_file() and " avx512f" in info.read_text()


def restrict_to_avx2() -> None:
    """Start this very command again with torch, oneDNN and MKL held to AVX2; returns in the restarted process."""
    if all(os.environ.get(name) == value for name, value in _AVX2_ONLY.items()):
        return
    if not has_avx512():
        raise SystemExit("error: this processor has no AVX512 to hold back\nhint:  leave out --isa avx2")
    if "torch" in sys.modules:
        raise RuntimeError("too late: torch has read its variables")
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_AVX2_ONLY})


def thread_settings() -> dict[str, str]:
    """What the environment says about this process's threads and instructions."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_", *_AVX2_ONLY))
    }


def versions(names: Sequence[str]) -> Mapping[str, str]:
    """Versions of Python and of the packages `names`."""
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
