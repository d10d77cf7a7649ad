"""A training run's whole state in one file, replaced in one step: kill -9 leaves the last good one.

Data order is a function of the seed and the step, and nothing in a step is random, so adapter, optimiser moments
and counters are all there is to keep.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_path

__all__ = ["RunState", "load_checkpoint", "save_checkpoint"]

_VERSION = 1
_VERSION_KEY, _STATE_KEY, _DIGEST_KEY = "nomoat.version", "nomoat.state", "nomoat.digest"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


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
    told = json.dumps(asdict(state))
    metadata = {_VERSION_KEY: str(_VERSION), _STATE_KEY: told, _DIGEST_KEY: _digest(told, tensors)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            # The library hides the operating system's error in a text; a full disk must be told as such.
            number = _OS_ERROR.search(str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_checkpoint(path: Path) -> tuple[RunState, dict[str, torch.Tensor]]:
    """Read what `save_checkpoint` wrote. Raises `BadFileError` for a damaged or foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if metadata[_VERSION_KEY] != str(_VERSION):
            raise ValueError(f"of version {metadata[_VERSION_KEY]}")
        told = metadata[_STATE_KEY]
        if metadata[_DIGEST_KEY] != _digest(told, tensors):
            raise ValueError("its content differs from its digest")
        return RunState(**json.loads(told)), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, "", f"is damaged, or no checkpoint of nomoat ({error})",
                           "delete it to start the run anew") from error  # fmt: skip


def _digest(state: str, tensors: dict[str, torch.Tensor]) -> str:
    """One wrong bit in a moment would change every later step, and nothing else would tell."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
