"""The JavaScript client of Hugging Face (npm `@huggingface/hub`), unmodified, against a real hub."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from running_hub import RunningHub

_FOLDER = Path(__file__).parent / "npm"


def test_the_javascript_client_reads_and_writes(running_hub: RunningHub, alice: str) -> None:
    node = shutil.which("node")
    if node is None or not (_FOLDER / "node_modules" / "@huggingface" / "hub").is_dir():
        pytest.skip("needs Node.js and the package: run `npm ci` in tests/server/hub/npm")
    answer = subprocess.run([node, "client.mjs"], cwd=_FOLDER, capture_output=True, text=True, timeout=120,
                            env=running_hub.environment(alice), check=False)  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.strip() == "all well"
