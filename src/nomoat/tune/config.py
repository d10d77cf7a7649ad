"""What a training run is asked to do: one small dataclass, read from and written to TOML."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError

__all__ = ["TARGET_MODULES", "TuneConfig", "config_to_toml", "read_config"]

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
        for name in ("r", "lora_alpha", "max_length", "batch_tokens", "learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise InputError(
                    f"{name} must be greater than 0, not {getattr(self, name)}", f"leave {name} out"
                )
        if any(b <= 0 for b in bounds):
            raise InputError("a run must have at least one step", "give a number greater than 0")
        unknown = [name for name in self.target_modules if name not in TARGET_MODULES]
        if unknown or not self.target_modules:
            raise InputError(f"unknown target modules: {', '.join(unknown) or 'none given'}",
                             f"choose from {', '.join(TARGET_MODULES)}")  # fmt: skip
        if self.train_on not in ("assistant", "all"):
            raise InputError(f"train_on {self.train_on!r} is unknown", "use assistant or all")


def read_config(path: Path, base: TuneConfig | None = None) -> TuneConfig:
    """`base` (or the defaults) with the keys of a TOML recipe laid over it; an unknown key is an error."""
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
        content["target_modules"] = tuple(content["target_modules"])
    try:
        return replace(base or TuneConfig(), **content)
    except TypeError as error:
        raise BadFileError(
            path, "", f"a value has the wrong type ({error})", "compare with docs/reference"
        ) from error


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
