"""Records of the store: one small JSON file per name, replaced in one step. Knows no model file's format."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_write_json, disk_errors, fsync_folder

__all__ = ["Record", "Records", "StoredModel"]

_SCHEMA = 1
_SUFFIX = ".json"


@dataclass(frozen=True)
class StoredModel:
    """One model file and what is known of it.

    `path` is absolute; `parent_digest` names the file that this one was requantised from, and `details` then
    holds `quantised_by`, `loss_before` and `loss_after`. `source` is where the file came from.
    """

    name: str
    path: Path
    digest: str
    architecture: str
    parameters: int
    quantisation: str
    context_length: int
    licence: str
    size_bytes: int
    parent_digest: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True)
class Record:
    """A name: its model files, and the digest of the one in use."""

    name: str
    active: str
    versions: tuple[StoredModel, ...]

    @property
    def model(self) -> StoredModel:
        """The version in use."""
        return next(version for version in self.versions if version.digest == self.active)

    def with_version(self, model: StoredModel) -> Record:
        """This record with `model` added (or replaced) and in use."""
        others = tuple(version for version in self.versions if version.digest != model.digest)
        return Record(self.name, model.digest, (*others, model))

    def renamed(self, name: str) -> Record:
        """The same files under another name."""
        return Record(name, self.active, tuple(replace(version, name=name) for version in self.versions))


class Records:
    """The folder of records. Paths inside `home` are kept relative, so that a store can be moved."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "models"

    def path(self, name: str) -> Path:
        """Where the record of `name` is; ':' is no letter for file names everywhere."""
        return self._folder / (name.replace(":", "@") + _SUFFIX)

    def names(self) -> list[str]:
        """All names, sorted."""
        if not self._folder.is_dir():
            return []
        return sorted(
            path.name[: -len(_SUFFIX)].replace("@", ":") for path in self._folder.glob("*" + _SUFFIX)
        )

    def all(self) -> list[Record]:
        """All records, by name."""
        return [record for name in self.names() if (record := self.read(name)) is not None]

    def read(self, name: str) -> Record | None:
        """The record of `name`, None where there is none. Raises `BadFileError` where it is damaged."""
        path = self.path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            versions = tuple(self._loaded(name, version) for version in content["versions"])
            record = Record(name, content["active"], versions)
            if record.active not in {version.digest for version in versions}:
                raise ValueError("the digest in use is not among its versions")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise BadFileError(path, "", f"is no record of a model ({error})",
                               "delete this file and import the model again") from error  # fmt: skip
        return record

    def write(self, record: Record) -> None:
        """Make `record` the one of its name, in one step."""
        versions = [self._kept(version) for version in record.versions]
        content = {"schema": _SCHEMA, "name": record.name, "active": record.active, "versions": versions}
        atomic_write_json(self.path(record.name), content)

    def remove(self, name: str) -> None:
        """Forget `name`."""
        path = self.path(name)
        with disk_errors(path):
            path.unlink(missing_ok=True)
            fsync_folder(self._folder)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the store's lock, so that two processes never change records and blobs at once."""
        with disk_errors(self._home):
            self._home.mkdir(parents=True, exist_ok=True)
            handle = (self._home / ".lock").open("a")
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _loaded(self, name: str, kept: dict[str, Any]) -> StoredModel:
        return StoredModel(**{**kept, "name": name, "path": self._home / kept["path"]})

    def _kept(self, model: StoredModel) -> dict[str, Any]:
        inside = model.path.is_relative_to(self._home)
        path = model.path.relative_to(self._home) if inside else model.path.absolute()
        kept = {**asdict(model), "path": str(path)}
        del kept["name"]
        return kept
