"""Hubs for these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trust_hub import Hub, open_hub


@pytest.fixture
def make_hub(tmp_path: Path) -> Iterator[Callable[[str], Hub]]:
    opened: list[Hub] = []

    def make(name: str) -> Hub:
        opened.append(open_hub(tmp_path / name))
        return opened[-1]

    yield make
    for hub in opened:
        hub.registry.close()


@pytest.fixture
def hub(make_hub: Callable[[str], Hub]) -> Hub:
    return make_hub("hub")
