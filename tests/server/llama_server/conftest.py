"""A server of these tests' own: they fill its memory, and the shared one's answers depend on what lies where in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import RunningServer, started, usual_options


@pytest.fixture(scope="session")
def server(
    smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory, adapter_path: Path
) -> Iterator[RunningServer]:
    with started(
        smollm2_path, tmp_path_factory.mktemp("llama-server-home"), *usual_options(adapter_path)
    ) as running:
        yield running
