"""Adapters of a request: named by the user, checked and brought into GGUF form before llama.cpp sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import BaseMismatchError, InputError
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import read_gguf
from nomoat.store.store import Store, StoredModel

__all__ = ["AdapterRef", "AdapterShelf", "parse_adapter"]

_MOST_SCALE = 100.0
_Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter by path (PEFT folder, nomoat folder, GGUF file) or name in the store, and its strength.

    `force` loads it on a base that it was not trained on, as long as the shapes fit.
    """

    path: Path | str
    scale: float = 1.0
    force: bool = False

    def __post_init__(self) -> None:
        if not abs(self.scale) <= _MOST_SCALE:  # NaN is refused, too
            raise InputError(f"adapter scale {self.scale}", "1 is as trained, 0 is off; 0.5 to 1.5 are usual")


def parse_adapter(text: str) -> AdapterRef:
    """`PATH_OR_NAME[:scale]` as typed; a colon that no number follows belongs to the name."""
    name, colon, scale = text.rpartition(":")
    if colon and name:
        try:
            return AdapterRef(name, float(scale))
        except ValueError:
            pass
    if not text:
        raise InputError("an adapter without a name", "use --adapter PATH_OR_NAME[:scale]")
    return AdapterRef(text)


class AdapterShelf:
    """Adapters that were checked against one model; each is checked again only when its files change."""

    def __init__(self, store: Store, model: Callable[[], StoredModel]) -> None:
        """`model` is asked when the first adapter comes: its digest may have to be computed."""
        self._store, self._model = store, model
        self._checked: dict[tuple[str, bool], tuple[_Fingerprint, Path]] = {}
        self.notices: list[str] = []

    def files(self, adapters: Sequence[AdapterRef]) -> tuple[tuple[str, float], ...]:
        """`(GGUF file, scale)` of each adapter.

        Raises `NotFoundError`, `BadFileError` for a damaged or misshapen one, and `BaseMismatchError` for one
        that was trained on another model, unless its reference says `force`.
        """
        return tuple((str(self._file(str(ref.path), ref.force)), ref.scale) for ref in adapters)

    def _file(self, text: str, force: bool) -> Path:
        fingerprint = _fingerprint(self._store.resolve_adapter(text))
        known = self._checked.get((text, force))
        if known is None or known[0] != fingerprint or not known[1].is_file():
            file = self._store.adapter_file(text, self._model(), force=force)
            known = self._checked[text, force] = fingerprint, file
            self._notice(text, file, force)
        return known[1]

    def _notice(self, text: str, file: Path, force: bool) -> None:
        model = self._model()
        trained_on = read_gguf(file).metadata.get(BASE_DIGEST_KEY)
        if not trained_on:
            line = f"{text} does not say which model it was trained on: only its shapes were checked"
        elif trained_on != model.digest and force and not self._fits(text, model):
            line = f"{text} was trained on {trained_on[:19]}..., not on {model.name}: its answers may be worthless"
        elif trained_on != model.digest:
            line = f"{text} was trained on {trained_on[:19]}..., of which {model.name} is another form"
        else:
            return
        if line not in self.notices:
            self.notices.append(line)

    def _fits(self, text: str, model: StoredModel) -> bool:
        try:
            self._store.adapter_file(text, model)
        except BaseMismatchError:
            return False
        return True


def _fingerprint(path: Path) -> _Fingerprint:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((str(file), (state := file.stat()).st_size, state.st_mtime_ns) for file in files)
