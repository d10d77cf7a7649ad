"""One real hub process for all tests of this folder, without a limit of requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_hub import RunningHub, started_hub


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """The hub that most tests share; each test uses repositories and people of its own."""
    with started_hub(tmp_path_factory.mktemp("hub-home"), "--rate", "0") as hub:
        yield hub


@pytest.fixture(scope="session")
def alice(running_hub: RunningHub) -> str:
    """A token of somebody who may write."""
    return running_hub.user("alice")


@pytest.fixture(scope="session")
def bob(running_hub: RunningHub) -> str:
    """A token of somebody else."""
    return running_hub.user("bob")
