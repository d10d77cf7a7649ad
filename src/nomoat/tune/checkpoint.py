"""A training run's whole state in one file, replaced in one step: kill -9 leaves the last good one.

Data order is a function of the seed and the step, and nothing in a step is random, so adapter, optimiser moments
and counters are all there is to keep.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_path

__all__ = ["RunState", "load_checkpoint", "save_checkpoint"]

_VERSION = 1


@dataclass
class RunState:
    """Counters of a run. `fingerprint` pins base, dataset and config; a resume with others is refused."""

    fingerprint: str
    step: int = 0
    total_steps: int = 0
    train_tokens: int = 0
    train_seconds: float = 0.0
    metrics_bytes: int = 0
    """Length of metrics.jsonl at this step; what a killed run wrote beyond it is cut off."""


def save_checkpoint(path: Path, state: RunState, tensors: dict[str, torch.Tensor]) -> None:
    """Write `state` and `tensors` (adapter values, optimiser moments) to `path` atomically."""
    metadata = {"nomoat.version": str(_VERSION), "nomoat.state": json.dumps(asdict(state))}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path) -> tuple[RunState, dict[str, torch.Tensor]]:
    """Read what `save_checkpoint` wrote. Raises `BadFileError` for a damaged or foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        return RunState(**json.loads(metadata["nomoat.state"])), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, "", f"is no checkpoint of nomoat ({error})",
                           "delete it to start the run anew") from error  # fmt: skip
