"""The machine that a run was made on, as far as it can matter for the result. Nothing that names its owner."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, str | int]:
    """Processor, logical cores, system, and the versions that computed."""
    return {
        "processor": _processor_name(), "cores": os.cpu_count() or 0, "system": platform.system(),
        "architecture": platform.machine(), "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
