"""What the program is told in tests of several verbs, and the hubs that several of them talk to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_process import HubProcess, running_hub, write_adapter_folder


@pytest.fixture(scope="module")
def environment(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        **os.environ,
        "NOMOAT_HOME": str(tmp_path_factory.mktemp("home")),
        "NOMOAT_EMBEDDED_MODEL": str(smollm2_path),
        "NOMOAT_EMBEDDED": "as-shipped",
        "NOMOAT_THREADS": "1",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="module")
def start_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], HubProcess]]:
    """Starts a hub in a new folder of that name; it ends with the module's tests."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(running_hub(tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def hub(start_hub: Callable[[str], HubProcess]) -> HubProcess:
    """The hub of tests that need one."""
    return start_hub("hub")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path) -> Path:
    """A finished adapter of random weights."""
    return write_adapter_folder(smollm2_path, tmp_path_factory.mktemp("adapter") / "notes")
