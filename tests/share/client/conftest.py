"""Stores of their own, and small GGUF files to put on hubs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pulling import FILE
from small_hub import SmallHub, running

from nomoat.base.settings import Settings
from nomoat.formats.gguf_write import write_gguf
from nomoat.share.client import connection as connection_module
from nomoat.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", Settings(tmp_path / "home", None, tmp_path / "absent.gguf"))


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model of some 20 MB: three pieces."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    metadata = {"general.architecture": "qwen2", "qwen2.context_length": 32, "general.license": "apache-2.0"}
    random = np.random.default_rng(0)
    write_gguf(path, metadata, {"output.weight": random.normal(size=(80_000, 64)).astype(np.float32)})
    return path.read_bytes()


@pytest.fixture
def hub(gguf_bytes: bytes) -> Iterator[SmallHub]:
    with running(SmallHub({"me/Tiny-GGUF": {FILE: gguf_bytes, "README.md": b"# Tiny\n"}})) as served:
        yield served


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_FIRST_WAIT_SECONDS", 0.001)
