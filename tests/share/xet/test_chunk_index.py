"""The chunk index of stored blobs: made once, kept beside them, sound or made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nomoat.share.errors import RefusedError
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.upkeep.garbage import collect
from nomoat.share.xet.chunk_index import index_of, read_index, write_index


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(RegistryConfig(tmp_path / "hub"))
    yield found
    found.close()


def content(seed: int, size: int = 3_000_000) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def test_a_changed_beginning_changes_the_first_chunks_only(registry: Registry) -> None:
    old = content(1)
    new = b"another header" + old[500:]
    before, after = (index_of(registry, registry.blobs.add(each).digest) for each in (old, new))
    assert sum(chunk.size_bytes for chunk in after) == len(new)
    fetched = sum(chunk.size_bytes for chunk in set(after) - set(before))
    assert 0 < fetched <= 256 << 10


def test_it_is_kept_and_made_anew_where_it_is_damaged(registry: Registry) -> None:
    digest = registry.blobs.add(content(2, 500_000)).digest
    made = index_of(registry, digest)
    [kept] = (registry.config.root / "chunks").rglob("*.chunks")
    for damage in (b"", b"nmchunk1", kept.read_bytes()[:-36]):
        kept.write_bytes(damage)
        assert index_of(registry, digest) == made
    assert read_index(kept.read_bytes(), 500_000) == made
    collect(registry, grace_seconds=-1)
    assert not kept.exists()


def test_an_index_of_another_file_is_refused() -> None:
    with pytest.raises(RefusedError):
        read_index(write_index([]), 1)
    with pytest.raises(RefusedError):
        read_index(b"something else", 1)
