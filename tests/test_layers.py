"""The architecture as contracts: who may import whom, and which libraries each room may know."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "nomoat"

# library -> the only rooms that may import it; the contracts in pyproject.toml follow indirect imports,
# this table also covers the rooms that are not built yet
ALLOWED_IN = {
    "click": {"cli"},
    "rich": {"cli"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "msgspec": {"server"},
    "prometheus_client": {"server"},
    "torch": {"tune", "see", "measure", "server", "cli"},
    "llama_cpp": {"formats", "run", "tune"},
    "httpx": {"share"},
    "PIL": {"see", "server", "share"},
}
# Libraries that would break a promise: other people's machines, other people's files.
NEVER = {"pickle", "requests", "urllib3", "transformers", "peft", "huggingface_hub", "gradio", "streamlit"}


@cache
def _imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything that `path` imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
    return found


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def _room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def test_the_contracts_in_pyproject_hold() -> None:
    argv = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    answer = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]


@pytest.mark.parametrize("library", sorted(ALLOWED_IN))
def test_a_library_is_known_only_in_its_rooms(library: str) -> None:
    strangers = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _modules()
        for line, name in _imports(path)
        if name.split(".")[0] == library and _room(path) not in ALLOWED_IN[library]
    ]
    assert not strangers, f"{library} is only for {sorted(ALLOWED_IN[library])}"


def test_no_room_imports_what_would_break_a_promise() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in _modules()
        for line, name in _imports(path)
        if name.split(".")[0] in NEVER or name in {"urllib.request", "http.client"}
    ]
    assert not found


def test_base_imports_nothing_but_the_standard_library() -> None:
    strangers = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (SOURCE / "base").rglob("*.py")
        for line, name in _imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("nomoat.base")
    ]
    assert not strangers


def test_every_test_folder_mirrors_a_room() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= rooms | {"scripts", "benchmarks", "fuzz"}
