"""Digests of files outside the store, remembered by size and time so that a run need not read 4 GB twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from nomoat.base.errors import NomoatError
from nomoat.base.files import atomic_write_json
from nomoat.base.progress import Progress
from nomoat.store.blobs import digest_of

__all__ = ["PathDigests"]


class PathDigests:
    """`home/cache/digests/<hash of the path>.json`; losing it costs time only."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "digests"

    def of(self, path: Path, progress: Progress) -> str:
        """The sha256 of `path` in OCI notation."""
        path = path.resolve()
        state = path.stat()
        identity = {"path": str(path), "size_bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
        note = self._folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            known = json.loads(note.read_text(encoding="utf-8"))
            if {key: known.get(key) for key in identity} == identity and isinstance(known["digest"], str):
                return str(known["digest"])
        digest = digest_of(path, progress, path.name)
        with contextlib.suppress(NomoatError, OSError):
            atomic_write_json(note, {**identity, "digest": digest})
        return digest
