"""Engines for the tests: the real embedded model in a real worker process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
