"""What the tests of measuring share: the real model in an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.base.settings import Settings
from nomoat.measure.subject import Subject
from nomoat.run.engine import Engine


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home of the tests' own, and one thread: tests run beside other work."""
    return Settings(home=tmp_path_factory.mktemp("home"), threads=1, embedded_model=None)


@pytest.fixture(scope="session")
def subject(smollm2_path: Path, settings: Settings) -> Iterator[Subject]:
    """The embedded model without adapters."""
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        yield Subject(engine)
