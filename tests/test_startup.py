"""`nomoat --help` answers at once, because it loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "jinja2",
    "llama_cpp",
    "numpy",
    "psutil",
    "rich",
    "safetensors",
    "starlette",
    "torch",
    "transformers",
    "uvicorn",
}
PROGRAM = """
import json, sys
from nomoat.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code in (0, None), end.code
sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def _modules_after(*arguments: str) -> set[str]:
    argv = [sys.executable, "-c", PROGRAM, *arguments]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(answer.stderr))


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_first_answer_loads_nothing_heavy(option: str) -> None:
    assert not _modules_after(option) & HEAVY


def test_the_help_loads_no_verb() -> None:
    loaded = {name for name in _modules_after("--help") if name.startswith("nomoat.cli.")}
    assert loaded == {"nomoat.cli.main", "nomoat.cli.output"}


def test_the_help_of_a_verb_loads_no_engine() -> None:
    assert not _modules_after("tune", "--help") & {"llama_cpp", "torch", "starlette"}


def test_measuring_needs_no_torch() -> None:
    program = "import sys, nomoat.measure.measuring, nomoat.measure.report; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "False"
