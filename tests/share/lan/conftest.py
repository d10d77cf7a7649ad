"""A store with a model and an adapter of its own kind for each test: names are found by everyone on this machine."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from made_things import made_adapter, made_model, store_at
from nomoat.store.store import Store


@pytest.fixture
def word() -> str:
    """Part of the names of a test: another test on this machine must not be found."""
    return secrets.token_hex(4)


@pytest.fixture
def seed(word: str) -> int:
    return int(word, 16)


@pytest.fixture
def store(tmp_path: Path, word: str, seed: int) -> Store:
    """Holds the model `m-<word>` of 13 blocks and the adapter `a-<word>` for it."""
    store = store_at(tmp_path / "home")
    model = store.import_file(made_model(tmp_path / "model.gguf", seed), f"m-{word}")
    store.import_adapter(made_adapter(tmp_path / "adapter", model.digest), f"a-{word}")
    return store


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """An empty store: the other machine."""
    return store_at(tmp_path / "other")
