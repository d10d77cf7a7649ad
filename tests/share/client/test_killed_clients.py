"""A client that is killed in the middle leaves nothing half, and goes on where it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_clients import kill_pulls, kill_pushes, started_hub

TRIALS = 10  # of each


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    process, host, token = started_hub(tmp_path_factory.mktemp("hub") / "root")
    yield host, token
    process.terminate()
    process.join()


@pytest.mark.parametrize("kill", [kill_pulls, kill_pushes])
def test_killed_at_any_moment_it_goes_on(kill: object, hub: tuple[str, str], tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    assert callable(kill)
    kill(*hub, tmp_path, TRIALS, random.Random(seed))
