"""A KV cache on disk for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kv_states import MIB

from nomoat.run.kv.store import KVStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@pytest.fixture
def store(folder: Path) -> Iterator[KVStore]:
    opened = KVStore(folder, 100 * MIB)
    yield opened
    opened.close()
