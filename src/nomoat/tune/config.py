"""What a training run is asked to do: one small dataclass, read from and written to TOML."""

from __future__ import annotations

import difflib
import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError, NotFoundError

__all__ = ["TARGET_MODULES", "TuneConfig", "config_to_toml", "read_config"]

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


_INFINITY, _LITTLE = math.inf, 1e-12
# name -> its type, the least and the most that make sense
_RANGES: dict[str, tuple[type, float, float]] = {
    "epochs": (float, _LITTLE, _INFINITY), "max_steps": (int, 1, _INFINITY),
    "budget_seconds": (float, _LITTLE, _INFINITY), "learning_rate": (float, _LITTLE, _INFINITY),
    "warmup_share": (float, 0, 1), "r": (int, 1, _INFINITY), "lora_alpha": (float, _LITTLE, _INFINITY),
    "max_length": (int, 8, _INFINITY), "batch_tokens": (int, 1, _INFINITY), "valid_share": (float, _LITTLE, 0.99),
    "seed": (int, 0, 2**63 - 1), "max_grad_norm": (float, _LITTLE, _INFINITY), "weight_decay": (float, 0, _INFINITY),
    "memory_bytes": (int, 1, _INFINITY), "checkpoint_seconds": (float, 0, _INFINITY),
}  # fmt: skip
_CHOICES = {"train_on": ("assistant", "all"), "precision": ("auto", "bf16", "fp32")}


@dataclass(frozen=True)
class TuneConfig:
    """Options of `nomoat tune`. At most one of epochs, max_steps and budget_seconds bounds the run."""

    epochs: float | None = None
    max_steps: int | None = None
    budget_seconds: float | None = None
    learning_rate: float = 1e-3
    warmup_share: float = 0.05
    """Share of the run over which the learning rate rises from 0; it then falls to 0 as a half cosine."""
    r: int = 16
    lora_alpha: float = 32.0
    target_modules: tuple[str, ...] = TARGET_MODULES
    max_length: int = 1024
    batch_tokens: int = 2048
    """Tokens of one optimiser step."""
    train_on: str = "assistant"
    """`assistant`: loss on the assistant's turns only; `all`: on every token."""
    valid_share: float = 0.1
    seed: int = 0
    precision: str = "auto"
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    memory_bytes: int | None = None
    """Most memory the run may take; None leaves it to the planner."""
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        bounds = [b for b in (self.epochs, self.max_steps, self.budget_seconds) if b is not None]
        if len(bounds) > 1:
            raise InputError(
                "more than one of epochs, max_steps and budget is given", "give only one of them"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _RANGES and not (value is None and field.default is None):
                _check_number(field.name, value, *_RANGES[field.name])
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown", f"use {' or '.join(choices)}")
        unknown = [str(name) for name in self.target_modules if name not in TARGET_MODULES]
        if unknown or not self.target_modules:
            raise InputError(f"unknown target modules: {', '.join(unknown) or 'none given'}",
                             f"choose from {', '.join(TARGET_MODULES)}")  # fmt: skip


def _check_number(name: str, value: Any, kind: type, least: float, most: float) -> None:
    is_number = isinstance(value, int | kind) and not isinstance(value, bool)
    if is_number and least <= value <= most and math.isfinite(value):
        return
    what = "a whole number" if kind is int else "a number"
    limit = "greater than 0" if least == _LITTLE else f"of at least {least:g}"
    limit += "" if math.isinf(most) else f" and at most {most:g}"
    raise InputError(f"{name} must be {what} {limit}, not {value!r}", f"change {name}, or leave it out")


def read_config(path: Path, base: TuneConfig | None = None) -> TuneConfig:
    """`base` (or the defaults) with the keys of a TOML recipe laid over it; an unknown key is an error."""
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", "check the path of the recipe")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(path, "", f"cannot be read as TOML ({error})", "mend the file") from error
    known = {field.name for field in fields(TuneConfig)}
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise BadFileError(path, f"key {key!r}", "is unknown", hint)
    if "target_modules" in content:
        if not isinstance(content["target_modules"], list):
            raise BadFileError(
                path, "key 'target_modules'", "is no list", 'write it like ["q_proj", "v_proj"]'
            )
        content["target_modules"] = tuple(content["target_modules"])
    try:
        return replace(base or TuneConfig(), **content)
    except InputError as error:
        raise BadFileError(path, "", error.message, error.hint) from error


def config_to_toml(config: TuneConfig) -> str:
    """The config as TOML, keys without a value left out."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in asdict(config).items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
