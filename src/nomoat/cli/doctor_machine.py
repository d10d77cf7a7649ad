"""What the doctor says of the machine: processor, load, memory, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from nomoat.base.settings import Settings
from nomoat.cli.findings import PROBLEM, WARNING, Finding
from nomoat.cli.store_output import size_words
from nomoat.run.machine_load import other_load_now
from nomoat.run.thread_record import processor_name
from nomoat.run.threads import usable_cores
from nomoat.store.memory import available_memory_bytes

__all__ = ["examine", "processor_flags"]

_TOPIC = "machine"
_BUSY_CORES = 0.5
_LITTLE_MEMORY_BYTES = 1e9
_LITTLE_DISK_BYTES, _HARDLY_ANY_DISK_BYTES = 2e9, 2e8
# What decides the speed of answers and of training: the flag in /proc/cpuinfo and its usual name.
_INSTRUCTION_SETS = {
    "amx_bf16": "AMX", "avx512_bf16": "AVX512 bf16", "avx512_vnni": "AVX512 VNNI", "avx512f": "AVX512",
    "avx_vnni": "AVX VNNI", "avx2": "AVX2", "sve": "SVE", "bf16": "bf16", "i8mm": "i8mm", "asimddp": "dot product",
    "asimd": "NEON",
}  # fmt: skip


def examine(settings: Settings) -> Iterator[Finding]:
    """Findings about the machine."""
    yield _processor()
    yield _load()
    yield _memory()
    yield _disk(settings.home)


def processor_flags() -> frozenset[str]:
    """Instruction sets as the Linux kernel names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())


def _processor() -> Finding:
    flags = processor_flags()
    sets = [name for flag, name in _INSTRUCTION_SETS.items() if flag in flags]
    cores, logical = usable_cores(), psutil.cpu_count() or 1
    facts = {
        "processor": processor_name(),
        "cores": cores,
        "logical_cores": logical,
        "instruction_sets": sets,
    }
    words = ", ".join(sets) or "instruction sets not known"
    return Finding(_TOPIC, f"{processor_name()}: {cores} usable cores; {words}", facts=facts)


def _load() -> Finding:
    cores = round(other_load_now(0.5), 2)
    facts = {"other_load_cores": cores}
    if cores <= _BUSY_CORES:
        return Finding(_TOPIC, f"other programs use {cores:g} cores", facts=facts)
    return Finding(_TOPIC, f"other programs use {cores:g} cores: answers are slower meanwhile", WARNING,
                   "look for them in top; nomoat takes fewer threads while they run", facts)  # fmt: skip


def _memory() -> Finding:
    total, free, swap = psutil.virtual_memory().total, available_memory_bytes(), psutil.swap_memory()
    facts = {"total_bytes": total, "available_bytes": free, "swap_used_bytes": swap.used}
    text = f"{size_words(free)} of {size_words(total)} memory can be used"
    if free >= _LITTLE_MEMORY_BYTES:
        return Finding(_TOPIC, text, facts=facts)
    return Finding(
        _TOPIC, text, WARNING, "close other programs before you train or load a large model", facts
    )


def _disk(home: Path) -> Finding:
    folder = next(path for path in [home, *home.absolute().parents] if path.exists())
    free = shutil.disk_usage(folder).free
    facts = {"home": str(home), "free_bytes": free}
    text = f"{size_words(free)} free on the disk of the store {home}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(_TOPIC, f"the store's folder {folder} may not be written", PROBLEM,
                       "make it yours, or set NOMOAT_HOME to a folder that is", facts)  # fmt: skip
    if free >= _LITTLE_DISK_BYTES:
        return Finding(_TOPIC, text, facts=facts)
    state = PROBLEM if free < _HARDLY_ANY_DISK_BYTES else WARNING
    return Finding(_TOPIC, text, state, "free some space, or set NOMOAT_HOME to another disk", facts)
