"""The folder of one training run: what state it is in, and the plan that a resume must repeat.

dataset/  config.toml  plan.json  metrics.jsonl  checkpoint.safetensors     while it runs
+ adapter files, report.html, README.md, manifest.json                      when it is done (checkpoint removed)
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import BadFileError, InputError, NomoatError
from nomoat.base.files import atomic_write, atomic_write_json, disk_errors, lock_folder
from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.tune.config import TuneConfig, config_to_toml
from nomoat.tune.dataset import KIND as DATASET_KIND
from nomoat.tune.run_plan import RunPlan
from nomoat.tune.trainer import CHECKPOINT_NAME

__all__ = ["RunFolder"]

_PLAN_NAME, _CONFIG_NAME, _IDENTITY = "plan.json", "config.toml", "fingerprint"
# What `atomic_path` and `prepare` leave half-written when the process is killed.
_PART = re.compile(
    r"\.(checkpoint\.safetensors|plan\.json|config\.toml|dataset|adapter_model\.safetensors|adapter_config\.json"
    r"|adapter\.gguf|report\.html|report\.json|README\.md|manifest\.json)\.[0-9a-f]{8}\.part"
)


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
        return (self.path / _PLAN_NAME).is_file()

    @property
    def has_dataset(self) -> bool:
        """Whether `dataset` is whole; a run may have been stopped between it and the plan."""
        try:
            read_manifest(self.dataset, DATASET_KIND)
        except NomoatError:
            return False
        return True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other runs out of it; raises `InputError` where one is at work in it."""
        self._make()
        with lock_folder(self.path) as mine:
            if not mine:
                raise InputError(f"{self.path}: another nomoat trains into this folder right now",
                                 "wait for it, stop it with Ctrl-C, or choose another --out")  # fmt: skip
            yield

    def open(self, resume: bool) -> None:
        """Make the folder, or refuse to touch what lies there; what a killed run left half-written goes."""
        if self.is_finished:
            raise InputError(
                f"{self.path}: holds a finished adapter already", "choose another --out, or remove it"
            )
        if self.has_plan and not resume:
            raise InputError(f"{self.path}: holds a run that was not finished",
                             "add --resume to go on with it, or choose another --out")  # fmt: skip
        if self.path.is_dir() and not self.has_plan and self._has_foreign_files():
            raise InputError(f"{self.path}: is not empty and no folder of a training run",
                             "choose a new folder for --out")  # fmt: skip
        self._make()
        self._remove_parts()

    def write_plan(self, config: TuneConfig, plan: RunPlan, identity: str) -> None:
        """Record what a resume must repeat; from here on the folder holds a run. `identity` is its fingerprint."""
        content = {_IDENTITY: identity, **plan.as_json()}
        atomic_write_json(self.path / _PLAN_NAME, content)
        self.write_config(config)

    def write_config(self, config: TuneConfig) -> None:
        """Record the run's options for people."""
        atomic_write(self.path / _CONFIG_NAME, config_to_toml(config))

    def read_plan(self) -> tuple[RunPlan, str]:
        """The plan and the fingerprint that `write_plan` recorded."""
        path = self.path / _PLAN_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            identity = content.pop(_IDENTITY)
            return RunPlan.from_json(content), str(identity)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFileError(path, "", f"is damaged, or no plan of nomoat ({error})",
                               "start the run anew in another --out") from error  # fmt: skip

    def remove_checkpoint(self) -> None:
        """After the manifest: the finished adapter is all that is needed."""
        (self.path / CHECKPOINT_NAME).unlink(missing_ok=True)

    def _make(self) -> None:
        with disk_errors(self.path):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise InputError(
                    f"{self.path}: a file is in its way", "choose a new folder for --out"
                ) from error

    def _has_foreign_files(self) -> bool:
        return any(
            not entry.name.startswith(".") and not (entry == self.dataset and self.has_dataset)
            for entry in self.path.iterdir()
        )

    def _remove_parts(self) -> None:
        for entry in self.path.iterdir():
            if _PART.fullmatch(entry.name) is None:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
