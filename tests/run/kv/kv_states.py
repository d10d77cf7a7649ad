"""States that can be recognised, and a store's answers about them."""

from __future__ import annotations

from pathlib import Path

from nomoat.run.kv.store import KVStore

__all__ = ["MIB", "files_in", "load", "save", "state_of", "tokens_of"]

MIB = 1 << 20


def tokens_of(seed: int, count: int = 100) -> list[int]:
    """Tokens that no other seed shares."""
    return [seed * 1000 + index for index in range(count)]


def state_of(tokens: list[int], n_bytes: int = 300_000) -> bytes:
    """A state that can be recognised as that of `tokens`."""
    pattern = bytes(token % 251 for token in tokens)
    return (pattern * (n_bytes // len(pattern) + 1))[:n_bytes]


def save(store: KVStore, tokens: list[int], scope: str = "scope", n_bytes: int = 300_000) -> Path:
    """Save and wait; the file."""
    store.save(scope, tokens, state_of(tokens, n_bytes))
    assert store.flush(30)
    found = store.longest(scope, tokens)
    assert found is not None
    return found.entry.path


def load(store: KVStore, tokens: list[int], scope: str = "scope") -> tuple[int, bytes] | None:
    """How many tokens are served, and the bytes; None for a miss or damage."""
    found, got = store.longest(scope, tokens), bytearray()
    if found is None or not store.load(found, got.extend):
        assert not got, "bytes were handed out that did not verify"
        return None
    return found.n_tokens, bytes(got)


def files_in(folder: Path) -> set[Path]:
    """Everything in the folder."""
    return set(folder.iterdir())
