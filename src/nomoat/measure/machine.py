"""The machine that is measured, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from nomoat.run.machine_load import OtherLoad

__all__ = ["describe_machine", "load_words"]

# What decides speed here, best first: the flag in /proc/cpuinfo and its usual name.
_INSTRUCTION_SETS = {
    "amx_bf16": "AMX", "avx512_bf16": "AVX512 bf16", "avx512_vnni": "AVX512 VNNI", "avx512f": "AVX512",
    "avx_vnni": "AVX VNNI", "avx2": "AVX2", "bf16": "bf16", "i8mm": "i8mm", "asimd": "NEON",
}  # fmt: skip


def describe_machine() -> str:
    """Processor, instruction sets, cores that may be used, memory, system."""
    info = _cpu_info()
    flags = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    sets = ", ".join(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags)
    name = info.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{name} ({sets or platform.machine()}), {cores} cores, {memory:.0f} GiB, {platform.system()}"


def load_words(load: OtherLoad) -> str:
    """A note on what else ran since `load` was made."""
    return f"Other programs used {load.cores():.2f} cores meanwhile."


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text().split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
