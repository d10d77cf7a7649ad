"""Tab completion: scripts for three shells, names from the store, nothing heavy loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.base.settings import child_environment

_PROGRAM = """
import json, sys
from nomoat.cli.main import main
try:
    main()
finally:
    sys.stderr.write(json.dumps(sorted(sys.modules)))
"""
_HEAVY = {"jinja2", "llama_cpp", "numpy", "psutil", "rich", "safetensors", "starlette", "torch"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name in ("qwen@0.5b", "mistral"):
        (tmp_path / "models" / f"{name}.json").write_text("{}")
    for name in ("me", "work"):
        (tmp_path / "adapters" / name).mkdir(parents=True)
    return tmp_path


def _complete(home: Path, *words: str) -> list[str]:
    """What bash is told after `nomoat WORDS<Tab>`."""
    environment = child_environment(
        NOMOAT_HOME=str(home), NOMOAT_EMBEDDED_MODEL=str(home / "absent"), _NOMOAT_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["nomoat", *words]), COMP_CWORD=str(len(words)),
    )  # fmt: skip
    argv = [sys.executable, "-c", _PROGRAM]
    answer = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert not set(json.loads(answer.stderr)) & _HEAVY
    return answer.stdout.split()


def test_verbs_and_options_are_completed(home: Path) -> None:
    assert _complete(home, "ex") == ["plain,export"]
    assert "plain,--max-tokens" in _complete(home, "run", "--max")


def test_models_and_adapters_of_the_store_are_completed(home: Path) -> None:
    assert _complete(home, "run", "q") == ["plain,qwen:0.5b"]
    assert _complete(home, "show", "m") == ["plain,mistral", "plain,me"]
    assert _complete(home, "show", "./f") == ["file,./f"]
    assert _complete(home, "run", "mistral", "--adapter", "w") == ["plain,work"]
    assert _complete(home, "rm", "me") == ["plain,me"]
    assert _complete(home, "run", "mistral+me:0.8+w") == ["plain,mistral+me:0.8+work"]


def test_a_path_is_completed_where_no_name_begins_so(home: Path) -> None:
    assert _complete(home, "run", "./models/") == ["file,./models/"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_accepts_its_script(shell: str) -> None:
    argv = [sys.executable, "-m", "nomoat.cli.main", "completions", shell]
    script = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "_NOMOAT_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, timeout=60, check=True)
