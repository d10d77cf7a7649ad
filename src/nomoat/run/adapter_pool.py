"""Adapters loaded into the model, and which of them the context applies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from nomoat.base.errors import InputError
from nomoat.run.context import Context
from nomoat.run.llama import Adapter
from nomoat.run.protocol import AdapterFiles

__all__ = ["AdapterKey", "AdapterPool", "AdapterSet", "adapter_key"]

_MOST_ADAPTERS = 16  # loaded at once; beyond, the longest unused is freed

AdapterKey = tuple[str, int, int]
"""An adapter's file by path, size and time of change."""
AdapterSet = tuple[tuple[AdapterKey, float], ...]
"""Adapters of a request with their scales."""


class AdapterPool:
    """Loads adapters when they are first used and applies them as sets."""

    def __init__(self, context: Context) -> None:
        self._context, self._model = context, context.model
        self._loaded: dict[AdapterKey, Adapter] = {}  # in the order of use
        self._applied: AdapterSet = ()

    def named(self, files: AdapterFiles) -> AdapterSet:
        """The set of these files as they are now: a file written anew under the same name is another adapter."""
        return tuple((adapter_key(path), scale) for path, scale in files)

    def load(self, adapters: AdapterSet) -> None:
        """Load what is not loaded yet. Raises `BadFileError`, or `OSError` for a file that is gone."""
        for key, _ in adapters:
            adapter = self._loaded.pop(key, None) or self._read(key)
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

    def _read(self, key: AdapterKey) -> Adapter:
        adapter = self._model.load_adapter(Path(key[0]))
        if adapter_key(key[0]) != key:
            self._model.free_adapter(adapter)
            raise InputError(f"{key[0]} was written anew just now", "send the request again")
        return adapter

    def _free(self, keys: Sequence[AdapterKey]) -> None:
        if any(key in keys for key, _ in self._applied):
            self.apply(())
        for key in keys:
            self._model.free_adapter(self._loaded.pop(key))


def adapter_key(path: str) -> AdapterKey:
    """The file as it is now. Raises `OSError` where it is gone."""
    status = Path(path).stat()
    return path, status.st_size, status.st_mtime_ns
