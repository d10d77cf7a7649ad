"""Between the KV memory and the cache on disk: what a stored state belongs to, and how it comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import llama_cpp
import xxhash
from numpy.typing import NDArray

from nomoat.run.adapter_pool import AdapterKey, AdapterSet, adapter_key
from nomoat.run.context import Context
from nomoat.run.kv.file import scope_key
from nomoat.run.kv.store import KVStore, Stored

__all__ = ["KVShelf", "Shelf"]

_CHUNK_BYTES = 1 << 20


class Shelf(Protocol):
    """Where states of sequences outlive this process."""

    def longest(self, adapters: AdapterSet, tokens: Sequence[int]) -> int:
        """How many of the first tokens the shelf could give back."""

    def restore(self, adapters: AdapterSet, tokens: Sequence[int], sequence: int) -> int:
        """Fill the empty `sequence` of the context; returns how many of its tokens are the first of `tokens`."""

    def wants(self, adapters: AdapterSet, tokens: Sequence[int], n_bytes: int) -> bool:
        """Whether `save` would keep this state of `n_bytes`: ask before copying it out of llama.cpp."""

    def save(self, adapters: AdapterSet, tokens: Sequence[int], state: NDArray[Any]) -> None:
        """Keep the state of a sequence that holds `tokens`, as `Context.state` gives it. It must not change later."""


class KVShelf:
    """A `Shelf` on disk for one model and context. Nothing here ever fails a request: what cannot be had is not had."""

    def __init__(self, store: KVStore, model_digest: str, context: Context) -> None:
        self.store = store
        self._model_digest, self._context = model_digest, context
        self._digests: dict[AdapterKey, str] = {}

    def longest(self, adapters: AdapterSet, tokens: Sequence[int]) -> int:
        """See `Shelf`."""
        stored = self._find(adapters, tokens)
        return stored.n_tokens if stored else 0

    def restore(self, adapters: AdapterSet, tokens: Sequence[int], sequence: int) -> int:
        """See `Shelf`."""
        stored = self._find(adapters, tokens)
        if stored is None or len(stored.entry.tokens) > self._context.cells:
            return 0
        accepted = False

        def into(data: memoryview) -> None:
            nonlocal accepted
            accepted = self._context.restore(sequence, data)

        with contextlib.suppress(OSError, MemoryError):
            if self.store.load(stored, into) and accepted:
                return stored.n_tokens
        return 0

    def wants(self, adapters: AdapterSet, tokens: Sequence[int], n_bytes: int) -> bool:
        """See `Shelf`."""
        scope = self._scope(adapters)
        return scope is not None and self.store.wants(scope, tokens, n_bytes)

    def save(self, adapters: AdapterSet, tokens: Sequence[int], state: NDArray[Any]) -> None:
        """See `Shelf`; the writing goes on in the background."""
        scope = self._scope(adapters)
        if scope is not None:
            self.store.save(scope, tokens, state.data)

    def _find(self, adapters: AdapterSet, tokens: Sequence[int]) -> Stored | None:
        scope = self._scope(adapters)
        return self.store.longest(scope, tokens) if scope is not None else None

    def _scope(self, adapters: AdapterSet) -> str | None:
        """What states belong to; None where an adapter's file is not any more what was loaded."""
        named = [(self._digest(key), scale) for key, scale in adapters]
        known = [(digest, scale) for digest, scale in named if digest is not None]
        if len(known) < len(named):
            return None
        return scope_key(self._model_digest, known, {"kv": "f16"}, llama_cpp.__version__)

    def _digest(self, key: AdapterKey) -> str | None:
        """An adapter by its content: the same file elsewhere is the same adapter."""
        known = self._digests.get(key)
        if known is not None:
            return known
        content = xxhash.xxh3_128()
        try:
            with Path(key[0]).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    content.update(chunk)
            if adapter_key(key[0]) != key:  # trained anew since it was loaded: this is another one's content
                return None
        except OSError:
            return None
        self._digests[key] = content.hexdigest()
        return self._digests[key]
