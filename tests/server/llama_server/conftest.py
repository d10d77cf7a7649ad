"""A server of these tests' own: they fill its memory, and the shared one's answers depend on what lies where in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import CONTEXT_TOKENS, RunningServer, started


@pytest.fixture(scope="session")
def server(
    smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory, adapter_path: Path
) -> Iterator[RunningServer]:
    options = [
        "smollm2",
        "--port",
        "0",
        "--context-length",
        str(CONTEXT_TOKENS),
        "--adapter",
        f"me={adapter_path}",
    ]
    with started(smollm2_path, tmp_path_factory.mktemp("llama-server-home"), *options) as running:
        yield running
