"""Adapters loaded into the model, and which of them the context applies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from nomoat.run.context import Context
from nomoat.run.llama import Adapter
from nomoat.run.protocol import AdapterFiles

__all__ = ["AdapterPool", "AdapterSet"]

_MOST_ADAPTERS = 16  # loaded at once; beyond, the longest unused is freed

_Key = tuple[str, int, int]
AdapterSet = tuple[tuple[_Key, float], ...]
"""Adapters of a request with their scales. Files are told apart by path, size and time of change."""


class AdapterPool:
    """Loads adapters when they are first used and applies them as sets."""

    def __init__(self, context: Context) -> None:
        self._context, self._model = context, context.model
        self._loaded: dict[_Key, Adapter] = {}  # in the order of use
        self._applied: AdapterSet = ()

    def named(self, files: AdapterFiles) -> AdapterSet:
        """The set of these files as they are now: a file written anew under the same name is another adapter."""
        return tuple((_key(path), scale) for path, scale in files)

    def load(self, adapters: AdapterSet) -> None:
        """Load what is not loaded yet. Raises `BadFileError` where llama.cpp refuses one."""
        for key, _ in adapters:
            adapter = self._loaded.pop(key, None) or self._model.load_adapter(Path(key[0]))
            self._loaded[key] = adapter

    def apply(self, adapters: AdapterSet) -> None:
        """Let the context use these adapters from the next evaluation on; they must be loaded."""
        if adapters != self._applied:
            self._context.set_adapters([(self._loaded[key], scale) for key, scale in adapters])
            self._applied = adapters

    def free(self, needed: Collection[AdapterSet], most: int = _MOST_ADAPTERS) -> None:
        """Free the longest unused until `most` are loaded; those of the sets `needed` stay."""
        keep = {key for adapters in needed for key, _ in adapters}
        unused = [key for key in self._loaded if key not in keep]
        self._free(unused[: max(0, len(self._loaded) - most)])

    def unload(self, keep: Sequence[str], needed: Collection[AdapterSet]) -> tuple[str, ...]:
        """Free every adapter whose path is not in `keep` and that no set in `needed` has; returns what stays."""
        needed_keys = {key for adapters in needed for key, _ in adapters}
        self._free([key for key in self._loaded if key[0] not in keep and key not in needed_keys])
        return tuple(key[0] for key in self._loaded)

    def _free(self, keys: Sequence[_Key]) -> None:
        if any(key in keys for key, _ in self._applied):
            self.apply(())
        for key in keys:
            self._model.free_adapter(self._loaded.pop(key))


def _key(path: str) -> _Key:
    status = Path(path).stat()
    return path, status.st_size, status.st_mtime_ns
