"""The folder of one training run: what state it is in, and the plan that a resume must repeat.

dataset/  config.toml  plan.json  metrics.jsonl  checkpoint.safetensors     while it runs
+ adapter files, report.html, README.md, manifest.json                      when it is done (checkpoint removed)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.files import atomic_write, atomic_write_json, disk_errors
from nomoat.base.manifests import MANIFEST_NAME
from nomoat.tune.config import TuneConfig, config_to_toml
from nomoat.tune.trainer import CHECKPOINT_NAME

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """`path` is the value of `--out`."""

    path: Path

    @property
    def dataset(self) -> Path:
        """The prepared dataset."""
        return self.path / "dataset"

    @property
    def is_finished(self) -> bool:
        """Whether a whole adapter lies here."""
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def has_plan(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "plan.json").is_file()

    def open(self, resume: bool) -> None:
        """Make the folder, or refuse to touch what lies there."""
        if self.is_finished:
            raise InputError(
                f"{self.path}: holds a finished adapter already", "choose another --out, or remove it"
            )
        if self.has_plan and not resume:
            raise InputError(f"{self.path}: holds a run that was not finished",
                             "add --resume to go on with it, or choose another --out")  # fmt: skip
        foreign = self.path.is_dir() and not self.has_plan and self._has_foreign_files()
        if foreign or self.path.is_file():
            raise InputError(f"{self.path}: is not empty and no folder of a training run",
                             "choose a new folder for --out")  # fmt: skip
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def write_plan(self, config: TuneConfig, plan: dict[str, Any]) -> None:
        """Record what a resume must repeat; from here on the folder holds a run."""
        atomic_write(self.path / "config.toml", config_to_toml(config))
        atomic_write_json(self.path / "plan.json", plan)

    def read_plan(self) -> dict[str, Any]:
        """The plan that `write_plan` recorded."""
        path = self.path / "plan.json"
        try:
            plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadFileError(
                path, "", f"is damaged ({error})", "start the run anew in another --out"
            ) from error
        return plan

    def remove_checkpoint(self) -> None:
        """After the manifest: the finished adapter is all that is needed."""
        (self.path / CHECKPOINT_NAME).unlink(missing_ok=True)

    def _has_foreign_files(self) -> bool:
        return any(
            entry.name != "dataset" and not entry.name.startswith(".") for entry in self.path.iterdir()
        )
