"""Which name of the store a name on a hub stands for: `home/pulled/<hash>.json`. Asks no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nomoat.base.files import atomic_write_json
from nomoat.share.client.references import Reference
from nomoat.store.store import Store

__all__ = ["Pulled", "PulledNames"]


@dataclass(frozen=True)
class Pulled:
    """What was fetched once. `digest` is that of the model's file, or of the adapter's weights."""

    reference: str
    kind: Literal["model", "adapter"]
    name: str
    commit: str
    digest: str
    repo: str
    signature: str = ""
    """Who signed it, in words."""
    signer: str = ""
    """Their name, where the signature was verified."""
    fetched_bytes: int = 0
    """What had to be fetched when it was last pulled."""
    trained_on: str = ""
    """The base's digest by its provenance, where that was signed and verified."""


class PulledNames:
    """Remembers what was pulled, and finds it as long as the store has it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.home / "pulled"

    def find(self, reference: Reference) -> Pulled | None:
        """What `reference` stands for in the store, or None where that is not there (any more)."""
        known = self._read(self._path(reference.key))
        return known if known is not None and self._is_there(known) else None

    def owner_of(self, kind: str, name: str) -> str | None:
        """The repository that the name in the store was pulled from; None where it stands for something else now."""
        pulled = self.of_name(kind, name)
        return pulled.repo if pulled else None

    def of_name(self, kind: str, name: str) -> Pulled | None:
        """How the name in the store was pulled; None where it was not, or stands for something else now."""
        last = self._read(self._path(_name_key(kind, name)))
        entries = [last] if last else [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        named = (entry for entry in entries if entry is not None and (entry.kind, entry.name) == (kind, name))
        return next((entry for entry in named if self._is_there(entry)), None)

    def keep(self, pulled: Pulled, references: Iterable[Reference]) -> None:
        """Let each of `references` stand for `pulled` from now on, and the name in the store for its repository."""
        for key in (*(reference.key for reference in references), _name_key(pulled.kind, pulled.name)):
            atomic_write_json(self._path(key), asdict(pulled))

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _read(self, path: Path) -> Pulled | None:
        # What cannot be read is as good as forgotten: pulling again costs nothing but time.
        try:
            return Pulled(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _is_there(self, pulled: Pulled) -> bool:
        if pulled.kind == "adapter":
            return pulled.name in self._store.adapters()
        return self._store.has_model(pulled.name) and pulled.digest in {
            version.digest for version in self._store.versions(pulled.name)
        }


def _name_key(kind: str, name: str) -> str:
    """What no reference is: it has no host."""
    return f"{kind} {name}"
