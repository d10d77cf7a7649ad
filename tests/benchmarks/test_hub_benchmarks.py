"""The hub's benchmarks run, and print what the tables are made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "scripts")]

import bench_tables  # noqa: E402


@pytest.mark.parametrize("name", ["hub_transfer", "hub_gallery", "hub_downloads"])
def test_a_program_prints_one_table(name: str) -> None:
    argv = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    result = json.loads(answer.stdout)
    assert result["rows"] and all(len(row) == len(result["columns"]) for row in result["rows"])
    assert not result.get("errors") and not result.get("problems")
    assert f"**{result['title']}**" in bench_tables.table({**result, "date": "today"})
