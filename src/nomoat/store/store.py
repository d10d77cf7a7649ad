"""The local model store: names for model files, on this machine only.

    home/models/<name>.json     what a name stands for
    home/blobs/sha256/<hex>     the files, each once
    home/adapters/<name>/       adapters by name

Records are written last, so an interrupted change leaves the store as it was.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError, NomoatError, NotFoundError
from nomoat.base.files import atomic_path, disk_errors
from nomoat.base.progress import Progress, Silent
from nomoat.base.settings import Settings
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.store.adapters import Adapters
from nomoat.store.blobs import Blobs, copy_verified, digest_of
from nomoat.store.describe import describe
from nomoat.store.embedded import (
    EMBEDDED_DIGEST,
    EMBEDDED_NAME,
    check_embedded,
    find_embedded,
    missing_embedded,
)
from nomoat.store.names import check_name, is_name, unknown_name
from nomoat.store.path_digests import PathDigests
from nomoat.store.records import Record, Records, StoredModel

__all__ = ["Origin", "Store", "StoredModel"]

_REMEDY = "`nomoat list` shows the store; `nomoat import FILE.gguf --name NAME` adds a model"


@dataclass(frozen=True)
class Origin:
    """Where a file comes from, in words, and the digest that was just computed from its bytes, if any."""

    source: str
    digest: str | None = None


class Store:
    """Models and adapters by name. Cheap to make; reads the folder afresh on every call."""

    def __init__(self, home: Path, settings: Settings | None = None) -> None:
        self.home = home.absolute()
        self._settings = settings or Settings.from_environment()
        self._records, self._blobs = Records(self.home), Blobs(self.home)
        self._digests = PathDigests(self.home)
        self._adapters = Adapters(self.home)

    @classmethod
    def from_environment(cls) -> Store:
        """The store of NOMOAT_HOME."""
        settings = Settings.from_environment()
        return cls(settings.home, settings)

    def resolve(self, name_or_path: str | Path, progress: Progress | None = None) -> StoredModel:
        """The model of a name in the store, else of a GGUF file's path.

        Raises `NotFoundError` where there is neither, `BadFileError` where the file is damaged or has changed
        since it was imported.
        """
        text, progress = str(name_or_path), progress or Silent()
        record = self._record(text, progress) if is_name(text) else None
        if record is not None:
            return self._checked(record.model, progress)
        path = Path(text).expanduser()
        if path.is_file():
            return self._from_path(path, progress)
        if "/" in text or text.endswith(".gguf") or path.exists():
            problem = "is a folder, not a GGUF file" if path.is_dir() else "no such file"
            raise NotFoundError(f"{text}: {problem}", f"check the path; {_REMEDY}")
        raise unknown_name("model", text, [*self._records.names(), EMBEDDED_NAME], _REMEDY)

    def list(self, progress: Progress | None = None) -> tuple[StoredModel, ...]:
        """The models in use, by name; the embedded one too, unless the user has removed it."""
        if find_embedded(self._settings) and not self._removed_mark.exists():
            self._record(EMBEDDED_NAME, progress or Silent())
        return tuple(record.model for record in self._records.all())

    def has_model(self, name: str) -> bool:
        """Whether `name` stands for a model now."""
        return name in self._records.names()

    def versions(self, name: str) -> tuple[StoredModel, ...]:
        """All files kept under `name`: the imported one and what was requantised from it."""
        return self._required(name).versions

    def import_file(
        self, path: Path, name: str, progress: Progress | None = None, replace_existing: bool = False,
        digest: str | None = None,
        origin: Origin | None = None,
    ) -> StoredModel:  # fmt: skip
        """Take a GGUF file into the store: shared with the original where the disk can, else copied.

        With `digest`, nothing else is taken: what came from elsewhere has to be what was asked for.

        Raises `InputError` where `name` stands for another model already, unless `replace_existing`;
        `BadFileError` where the file is no sound model; `DiskFullError`. The store then is as it was.
        """
        check_name(name)
        progress = progress or Silent()
        facts, origin = describe(read_gguf(path)), origin or Origin(str(path.absolute()))
        with self._blobs.incoming(path, progress, digest=origin.digest) as incoming:
            assert incoming is not None
            if digest is not None and incoming.digest != digest:
                raise BadFileError(path, "", f"is {incoming.digest}, not {digest}", "get the file again")
            with self._records.changing():
                self._refuse_other(name, incoming.digest, replace_existing)
                blob = self._blobs.keep(incoming, progress)
                model = _stored(name, blob, incoming.digest, asdict(facts), source=origin.source)
                record = None if replace_existing else self._records.read(name)
                self._records.write((record or Record(name, model.digest, ())).with_version(model))
                self._sweep()
        return model

    def copy(self, source: str, target: str) -> StoredModel:
        """Let `target` name the model of `source` too. Raises `InputError` where `target` is taken."""
        check_name(target)
        self._required(source)
        with self._records.changing():
            record = self._reread(source)
            self._refuse_other(target, record.active, False)
            self._records.write(record.renamed(target))
        return record.renamed(target).model

    def remove(self, name: str) -> tuple[StoredModel, ...]:
        """Forget `name`; a file goes when no other name needs it. Returns what `name` stood for.

        The embedded model may be removed too: it comes back when it is next used by name.
        """
        self._required(name)
        with self._records.changing():
            record = self._reread(name)
            if name == EMBEDDED_NAME:
                with disk_errors(self._removed_mark):
                    self._removed_mark.touch()
            self._records.remove(name)
            self._sweep()
        return record.versions

    def export(
        self, name: str, destination: Path, progress: Progress | None = None, overwrite: bool = False
    ) -> Path:
        """Write the model's file to `destination` (a file, or a folder to put `<name>.gguf` in).

        Raises `InputError` where it exists, unless `overwrite`; `BadFileError` where the copy is not the
        recorded content. What existed stays until the copy is complete.
        """
        progress = progress or Silent()
        model = self.resolve(name, progress)
        if destination.is_dir():
            destination = destination / (model.name.replace(":", "-") + ".gguf")
        if destination.exists() and not overwrite:
            raise InputError(f"{destination}: exists already", "choose another name, or give --force")
        with atomic_path(destination) as temporary:
            if copy_verified(model.path, temporary, progress, name) != model.digest:
                raise BadFileError(
                    model.path, "", f"is not {model.digest} any more", "import the model again"
                )
        return destination

    def add_derived(
        self, parent: StoredModel, file: Path, details: dict[str, Any], progress: Progress | None = None
    ) -> StoredModel:
        """Keep `file`, requantised from `parent`, under the same name and use it from now on.

        `details` says how and at what price: `quantised_by`, `loss_before`, `loss_after`.
        """
        progress = progress or Silent()
        facts = describe(read_gguf(file))
        with self._blobs.incoming(file, progress) as incoming:
            assert incoming is not None
            with self._records.changing():
                record = self._reread(parent.name)
                blob = self._blobs.keep(incoming, progress)
                model = replace(
                    _stored(parent.name, blob, incoming.digest, asdict(facts), source=parent.source),
                    parent_digest=parent.digest, details=details, licence=facts.licence or parent.licence,
                )  # fmt: skip
                self._records.write(record.with_version(model))
        return model

    def set_active(self, name: str, digest: str) -> StoredModel:
        """Use that version of `name` from now on. Raises `NotFoundError` where there is no such version."""
        self._required(name)
        with self._records.changing():
            record = self._reread(name)
            if digest not in {version.digest for version in record.versions}:
                known = ", ".join(version.digest for version in record.versions)
                raise NotFoundError(f"{name!r} has no version {digest}", f"it has {known}")
            record = replace(record, active=digest)
            self._records.write(record)
        return record.model

    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters in the store."""
        return tuple(self._adapters.names())

    def find_digest(self, digest: str) -> StoredModel | None:
        """A model of the store whose file, or that of an earlier version of it, has `digest`."""
        kept = (version for record in self._records.all() for version in record.versions)
        found = next((version for version in kept if version.digest == digest), None)
        if found is None and digest == EMBEDDED_DIGEST and find_embedded(self._settings):
            return self._register_embedded(Silent()).model
        return found

    def import_adapter(self, path: Path, name: str, replace_existing: bool = False) -> Path:
        """Copy an adapter's folder or .gguf file into the store; see `Adapters.add`."""
        return self._adapters.add(str(path), name, replace_existing)

    def remove_adapter(self, name: str) -> None:
        """Delete an adapter from the store. Raises `NotFoundError` where there is none of that name."""
        if name not in self._adapters.names():
            raise unknown_name("adapter", name, self._adapters.names(), "`nomoat list` shows the store")
        self._adapters.remove(name)

    def resolve_adapter(self, text: str | Path) -> Path:
        """The PEFT folder, nomoat adapter folder or GGUF file that `text` names; see `Adapters.resolve`."""
        return self._adapters.resolve(str(text))

    def adapter_file(self, text: str | Path, model: StoredModel, *, force: bool = False) -> Path:
        """A GGUF file of the adapter `text`, checked against `model`; see `Adapters.ready_file`."""
        record = self._records.read(model.name) if is_name(model.name) else None
        kin = [version.digest for version in record.versions] if record else []
        family = [model.digest, *([model.parent_digest] if model.parent_digest else [])]
        family += kin if model.digest in kin else []
        return self._adapters.ready_file(str(text), model, family, force=force)

    @property
    def _removed_mark(self) -> Path:
        return self.home / "models" / f".{EMBEDDED_NAME}.removed"

    def _record(self, name: str, progress: Progress) -> Record | None:
        record = self._records.read(name)
        if record is None and name == EMBEDDED_NAME:
            return self._register_embedded(progress)
        return record

    def _reread(self, name: str) -> Record:
        """The record as it is now that the lock is held; never registers anything."""
        record = self._records.read(name)
        if record is None:
            raise NotFoundError(f"{name!r} was removed by another process meanwhile", _REMEDY)
        return record

    def _required(self, name: str) -> Record:
        record = self._record(name, Silent()) if is_name(name) else None
        if record is None:
            raise unknown_name("model", name, [*self._records.names(), EMBEDDED_NAME], _REMEDY)
        return record

    def _register_embedded(self, progress: Progress) -> Record:
        path = find_embedded(self._settings)
        if path is None:
            raise missing_embedded()
        facts = asdict(describe(read_gguf(path)))
        # Linked where the disk can (it then survives the package's removal), else used where it is.
        with self._blobs.incoming(path, progress, copy=False) as incoming:
            digest = incoming.digest if incoming else digest_of(path, progress, path.name)
            check_embedded(path, digest)
            with self._records.changing():
                blob = self._blobs.keep(incoming, progress) if incoming else path.absolute()
                model = _stored(EMBEDDED_NAME, blob, digest, facts, source=str(path.absolute()))
                record = Record(EMBEDDED_NAME, digest, (model,))
                self._records.write(record)
                self._removed_mark.unlink(missing_ok=True)
        return record

    def _checked(self, model: StoredModel, progress: Progress) -> StoredModel:
        """`model`, whose file is as recorded; the digest is computed again only where size or time differ."""
        try:
            state = model.path.stat()
        except FileNotFoundError as error:
            hint = f"import it again from {model.source or 'where it came from'}"
            raise NotFoundError(f"{model.path}: the file of {model.name!r} is gone", hint) from error
        if (state.st_size, state.st_mtime_ns) == (model.size_bytes, model.mtime_ns):
            return model
        if state.st_size != model.size_bytes or digest_of(model.path, progress, model.name) != model.digest:
            raise BadFileError(model.path, "", f"has changed since it was imported as {model.name!r}",
                               f"`nomoat rm {model.name}`, then import it again")  # fmt: skip
        fresh = replace(model, mtime_ns=state.st_mtime_ns)
        with contextlib.suppress(NomoatError, OSError), self._records.changing():  # only saves time
            if (record := self._records.read(model.name)) is not None:
                self._records.write(replace(record.with_version(fresh), active=record.active))
        return fresh

    def _from_path(self, path: Path, progress: Progress) -> StoredModel:
        gguf: GGUFFile = read_gguf(path)
        digest = self._digests.of(path, progress)
        return _stored(str(path), path.absolute(), digest, asdict(describe(gguf)), str(path.absolute()))

    def _refuse_other(self, name: str, digest: str, replace_existing: bool) -> None:
        record = self._records.read(name)
        known = {version.digest for version in record.versions} if record else set()
        if record is None and name == EMBEDDED_NAME:
            known = {EMBEDDED_DIGEST}
        if known and digest not in known and not replace_existing:
            raise InputError(f"{name!r} already names another model ({min(known)[:19]}...)",
                             f"choose another name, or remove it first: nomoat rm {name}")  # fmt: skip

    def _sweep(self) -> None:
        self._blobs.sweep({v.path for record in self._records.all() for v in record.versions})


def _stored(name: str, path: Path, digest: str, facts: dict[str, Any], source: str) -> StoredModel:
    state = path.stat()
    return StoredModel(
        name=name, path=path, digest=digest, size_bytes=state.st_size, mtime_ns=state.st_mtime_ns,
        source=source, **facts,
    )  # fmt: skip
