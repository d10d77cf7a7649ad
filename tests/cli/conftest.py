"""What the program is told in tests of several verbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
