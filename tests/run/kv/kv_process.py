"""A process that saves states into a folder without end, until it is killed. Prints a line for each."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from kv_states import state_of, tokens_of

from nomoat.run.kv.store import KVStore

__all__ = ["main"]


def main(folder: str, first_seed: str, count: str, cap_bytes: str) -> None:
    """Save `count` states (0: without end) and read back some of those that others saved."""
    store = KVStore(Path(folder), int(cap_bytes))
    first = int(first_seed)
    for seed in itertools.count(first) if count == "0" else range(first, first + int(count)):
        tokens = tokens_of(seed)
        store.save("scope", tokens, state_of(tokens))
        store.flush(60)
        print(seed, flush=True)
        for other in range(0, 1000, 100):
            found = store.longest("scope", tokens_of(other + seed % 100))
            if found is not None:
                expected = state_of(found.entry.tokens.tolist())
                store.load(found, lambda view, expected=expected: _check(view, expected))  # type: ignore[misc]
    assert not [notice for notice in store.notices if "removed" in notice], list(store.notices)
    store.close()


def _check(view: memoryview, expected: bytes) -> None:
    assert bytes(view) == expected


if __name__ == "__main__":
    main(*sys.argv[1:])
