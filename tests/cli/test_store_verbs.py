"""The store's verbs as a script sees them: exit status, one JSON object, errors with a remedy."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nomoat.base.digests import sha256_file
from nomoat.base.settings import child_environment
from nomoat.formats.gguf_write import write_gguf
from nomoat.store.embedded import EMBEDDED_DIGEST

_NOMOAT = [sys.executable, "-m", "nomoat.cli.main"]
_SHOWN = {
    "name", "digest", "architecture", "parameters", "quantisation", "context_length", "licence", "bytes",
    "parent_digest", "details", "path", "source",
}  # fmt: skip
_ERROR = {"code", "message", "hint"}


class Shell:
    """Runs `nomoat` in a process of its own, with a store of its own."""

    def __init__(self, home: Path, embedded: Path) -> None:
        self.home = home
        self.environment = child_environment(
            NOMOAT_HOME=str(home), NOMOAT_EMBEDDED_MODEL=str(embedded), NO_COLOR="1", COLUMNS="200"
        )

    def run(
        self, *arguments: str | Path, status: int = 0, before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*_NOMOAT, *map(str, arguments)], env=self.environment, preexec_fn=before,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str | Path, status: int = 0, **options: Any) -> dict[str, Any]:
        lines = self.run(*arguments, "--json", status=status, **options).stdout.splitlines()
        assert len(lines) == 1
        content = json.loads(lines[0])
        assert isinstance(content, dict)
        return content

    def state(self) -> dict[str, bytes]:
        """Every file of the store but the lock."""
        files = (path for path in self.home.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(self.home)): path.read_bytes() for path in files}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "absent.gguf")


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    return _model(tmp_path / "Qwen 2.gguf", 0)


def _model(path: Path, seed: int, rows: int = 64) -> Path:
    metadata = {"general.architecture": "qwen2", "qwen2.context_length": 32, "general.license": "apache-2.0"}
    write_gguf(path, metadata, {"output.weight": np.full((rows, 64), seed, np.float32)})
    return path


def test_a_newcomer_sees_the_embedded_model(tmp_path: Path, smollm2_path: Path) -> None:
    shell = Shell(tmp_path / "home", smollm2_path)
    (listed,) = shell.json("list")["models"]
    shown = shell.json("show", "smollm2")
    assert set(shown) == _SHOWN and shown == listed
    assert (shown["digest"], shown["quantisation"]) == (EMBEDDED_DIGEST, "Q4_1")
    assert (shown["licence"], shown["context_length"], shown["bytes"]) == ("Apache-2.0", 8192, 98362432)
    words = shell.run("show", "smollm2").stdout
    assert "context length  8,192 tokens" in words and "\x1b" not in words
    assert "comes back" in shell.run("rm", "smollm2").stdout
    assert shell.json("list")["models"] == []
    assert shell.json("show", "smollm2") == shown


def test_a_model_s_life_from_import_to_removal(shell: Shell, model_path: Path, tmp_path: Path) -> None:
    imported = shell.json("import", model_path, "--name", "qwen")
    assert imported["digest"] == sha256_file(model_path) and imported["parameters"] == 4096
    assert shell.json("show", "qwen") == imported == shell.json("list")["models"][0]
    assert shell.json("show", model_path)["digest"] == imported["digest"]
    assert shell.json("cp", "qwen", "other")["name"] == "other"
    assert "qwen" in shell.run("list").stdout
    exported = shell.json("export", "qwen", tmp_path / "out.gguf")
    assert exported["digest"] == sha256_file(tmp_path / "out.gguf") == imported["digest"]
    assert shell.json("export", "qwen", tmp_path / "out.gguf", status=1)["error"]["code"] == "bad_input"
    shell.json("export", "qwen", tmp_path / "out.gguf", "--force")
    assert shell.json("rm", "qwen")["freed_bytes"] == 0
    assert shell.json("rm", "other")["freed_bytes"] == imported["bytes"]
    assert shell.json("list")["models"] == []


def test_a_name_is_made_from_the_file_s(shell: Shell, model_path: Path) -> None:
    assert shell.json("import", model_path)["name"] == "qwen-2"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "nothing"], "not_found"),
        (["rm", "nothing"], "not_found"),
        (["cp", "nothing", "x"], "not_found"),
        (["export", "nothing", "x"], "not_found"),
        (["import", "nothing.gguf", "--name", "x"], "not_found"),
        (["import", "{text}", "--name", "x"], "bad_file"),
        (["import", "{model}", "--name", "No Name"], "bad_input"),
        (["show", "smollm2"], "not_found"),
    ],
)
def test_errors_are_one_object_for_scripts_and_two_lines_for_people(
    shell: Shell, model_path: Path, tmp_path: Path, arguments: list[str], code: str
) -> None:
    (tmp_path / "notes.gguf").write_text("no model at all, but long enough to be read as one")
    files = {"{text}": str(tmp_path / "notes.gguf"), "{model}": str(model_path)}
    arguments = [files.get(argument, argument) for argument in arguments]
    error = shell.json(*arguments, status=1)["error"]
    assert set(error) == _ERROR and error["code"] == code and error["hint"]
    people = shell.run(*arguments, status=1)
    assert people.stdout == ""
    assert people.stderr == f"error: {error['message']}\nhint:  {error['hint']}\n"


def test_wrong_usage_is_status_2(shell: Shell) -> None:
    shell.run("show", status=2)
    shell.run("import", status=2)
    shell.run("list", "--nonsense", status=2)


def test_a_truncated_model_is_refused_and_changes_nothing(
    shell: Shell, model_path: Path, tmp_path: Path
) -> None:
    shell.json("import", model_path, "--name", "qwen")
    before = shell.state()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model_path.read_bytes()[:-9])
    error = shell.json("import", cut, "--name", "cut", status=1)["error"]
    assert error["code"] == "bad_file" and "bytes are missing" in error["message"]
    assert str(cut) in error["message"] and "cut short" in error["hint"]
    assert shell.state() == before


def _mount_tmpfs(folder: Path) -> bool:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    return done.returncode == 0


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not _mount_tmpfs(disk):
        pytest.skip("may not mount a small disk here; the file size limit test covers the path")
    try:
        shell = Shell(disk / "home", tmp_path / "absent.gguf")
        shell.json("import", _model(tmp_path / "small.gguf", 0), "--name", "small")
        before = shell.state()
        large = _model(tmp_path / "large.gguf", 1, rows=8192)
        error = shell.json("import", large, "--name", "large", status=1)["error"]
        assert error["code"] == "disk_full" and "free some space" in error["hint"]
        assert shell.state() == before
        assert [model["name"] for model in shell.json("list")["models"]] == ["small"]
        error = shell.json("export", large, disk / "out.gguf", status=1)["error"]
        assert error["code"] == "disk_full" and not (disk / "out.gguf").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_write_beyond_the_file_size_limit_changes_nothing(
    shell: Shell, model_path: Path, tmp_path: Path
) -> None:
    shell.json("import", model_path, "--name", "small")
    before = shell.state()
    error = shell.json(
        "export", "small", tmp_path / "out.gguf", status=1,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )["error"]  # fmt: skip
    assert error["code"] == "disk_full"
    assert shell.state() == before and not (tmp_path / "out.gguf").exists()


def _interrupted_export(shell: Shell, target: Path, sent: signal.Signals) -> subprocess.Popen[str]:
    """Start an export and send a signal as soon as its temporary file exists."""
    process = subprocess.Popen(
        [*_NOMOAT, "export", "large", str(target), "--json"], env=shell.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(target.parent.glob(f".{target.name}.*.part")):
        time.sleep(0.001)
    process.send_signal(sent)
    return process


@pytest.fixture
def with_large_model(shell: Shell, tmp_path: Path) -> Shell:
    shell.json("import", _model(tmp_path / "large.gguf", 1, rows=1 << 18), "--name", "large")
    return shell


def test_ctrl_c_leaves_no_half_file_and_says_so(with_large_model: Shell, tmp_path: Path) -> None:
    target = tmp_path / "out" / "large.gguf"
    target.parent.mkdir()
    process = _interrupted_export(with_large_model, target, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(output)["error"]["code"] == "interrupted"
    assert list(target.parent.iterdir()) == []


def test_a_killed_import_leaves_no_half_model(shell: Shell, model_path: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not _mount_tmpfs(disk):
        pytest.skip("may not mount a second file system here, and links need no time to kill in")
    try:
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        shell = Shell(disk / "home", tmp_path / "absent.gguf")
        shell.json("import", model_path, "--name", "small")
        large = _model(tmp_path / "large.gguf", 1, rows=1 << 18)
        blobs = disk / "home" / "blobs" / "sha256"
        process = subprocess.Popen([*_NOMOAT, "import", str(large), "--name", "large"], env=shell.environment,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        while process.poll() is None and not list(blobs.glob(".*.part")):
            time.sleep(0.001)
        process.kill()
        assert process.wait(timeout=60) == -signal.SIGKILL
        assert [model["name"] for model in shell.json("list")["models"]] == ["small"]
        assert shell.json("import", large, "--name", "large")["digest"] == sha256_file(large)
        assert {path.name for path in blobs.iterdir() if not path.name.startswith(".")} == {
            sha256_file(path)[7:] for path in (large, model_path)
        }
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_imports_at_once_both_succeed(shell: Shell, tmp_path: Path) -> None:
    paths = [_model(tmp_path / f"{seed}.gguf", seed) for seed in range(4)]
    processes = [
        subprocess.Popen([*_NOMOAT, "import", str(path), "--name", f"model-{path.stem}"],
                         env=shell.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for path in paths
    ]  # fmt: skip
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    models = shell.json("list")["models"]
    assert [model["digest"] for model in models] == [sha256_file(path) for path in paths]
    assert all(os.path.exists(model["path"]) for model in models)
