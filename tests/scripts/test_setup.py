"""Set-up's own parts: the cache of native wheels, the heartbeat, the lock, the tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import bench_tables  # noqa: E402
import install  # noqa: E402
import native_wheel  # noqa: E402
from steps import Steps, clock  # noqa: E402


def test_a_wheel_built_for_another_processor_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = native_wheel.cache_folder("0.3.36")
    assert here == native_wheel.cache_folder("0.3.36")
    macros = native_wheel._native_macros()
    monkeypatch.setattr(native_wheel, "_native_macros", lambda: f"{macros}\n#define __MORE__ 1")
    assert native_wheel.cache_folder("0.3.36") != here


def test_another_version_or_option_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    key = native_wheel.build_key("0.3.36")
    assert native_wheel.build_key("0.3.37") != key
    monkeypatch.setenv("NOMOAT_CMAKE_ARGS", "-DGGML_CUDA=ON")
    assert native_wheel.build_key("0.3.36") != key


def test_a_kept_wheel_is_used_without_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = native_wheel.cache_folder("0.3.36")
    folder.mkdir(parents=True)
    wheel = folder / "llama_cpp_python-0.3.36-py3-none-any.whl"
    wheel.touch()
    steps = Steps(time.time(), tmp_path / "log")
    assert native_wheel.get_wheel("0.3.36", ROOT / "constraints.txt", steps) == wheel


def test_a_failed_step_ends_with_its_log_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(time.time(), tmp_path / "log")
    with pytest.raises(SystemExit):
        steps.run("fetching", [sys.executable, "-c", "print('no route'); raise SystemExit(3)"])
    err = capsys.readouterr().err
    assert "no route" in err
    assert "error: failed: fetching" in err
    assert "the next scripts/setup continues here" in err


def test_times_are_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0, 59.9, 247)] == ["0:00", "0:59", "4:07"]


def test_the_lock_names_everything_that_set_up_installs() -> None:
    locked = install.locked_versions((ROOT / "constraints.txt").read_text())
    wanted = {"pip", "torch", "llama-cpp-python", *install._MODELS, *install._TEST_MODELS}
    assert wanted <= set(locked)
    assert not [name for name in locked if name.startswith(("nvidia", "cuda"))]


def test_who_may_not_install_packages_is_told_which_to_ask_for(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "cat", "date", "dirname", "id", "uname", "env"):
        found = shutil.which(tool)
        assert found
        (bare / tool).symlink_to(found)
    environment = {"PATH": str(bare), "HOME": str(tmp_path)}
    argv = [str(bare / "bash"), str(ROOT / "scripts" / "setup"), "--dev"]
    answer = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "build-essential" in answer.stderr
    assert "ask for: apt-get install" in answer.stderr


def test_tables_replace_what_stands_between_the_markers() -> None:
    result = {
        "title": "Decode", "machine": "2 cores", "date": "2026-11-23", "columns": ["engine", "tok/s"],
        "rows": [["ours", 151.234], ["theirs", 1.5]],
    }  # fmt: skip
    page = "a\n<!-- bench:start -->\nold\n<!-- bench:end -->\nb\n"
    new = bench_tables.replace_between(page, bench_tables.table(result))
    assert new.startswith("a\n")
    assert new.endswith("\nb\n")
    assert "| ours | 151 |\n| theirs | 1.5 |" in new
    assert "old" not in new
    assert bench_tables.replace_between("no markers", "x") == "no markers"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The program that writes tables, one kept result, a page, and a benchmark that must not run."""
    for folder in ("scripts", "benchmarks/results", "docs/explanation"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "bench_tables.py", tmp_path / "scripts")
    program = 'import sys\nif __name__ == "__main__":\n    sys.exit("it ran")\n'
    (tmp_path / "benchmarks" / "decode.py").write_text(program)
    result = {"title": "Kept", "machine": "m", "date": "2026-11-23", "columns": ["a"], "rows": [[1234]]}
    (tmp_path / "benchmarks" / "results" / "decode.json").write_text(json.dumps(result))
    for page in ("README.md", "docs/explanation/speed.md"):
        (tmp_path / page).write_text("before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n")
    return tmp_path


def _bench_tables(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(checkout / "scripts" / "bench_tables.py"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_tables_are_written_without_running_anything(checkout: Path) -> None:
    kept = (checkout / "benchmarks" / "results" / "decode.json").read_bytes()
    answer = _bench_tables(checkout, "--only-tables")
    assert (answer.returncode, answer.stderr) == (0, "")
    for page in ("README.md", "docs/explanation/speed.md"):
        text = (checkout / page).read_text()
        assert "**Kept** (m, 2026-11-23)" in text and "| 1,234 |" in text and "old" not in text
    assert (checkout / "benchmarks" / "results" / "decode.json").read_bytes() == kept


def test_without_the_option_benchmarks_run(checkout: Path) -> None:
    for arguments in ([], ["decode"]):
        answer = _bench_tables(checkout, *arguments)
        assert answer.returncode == 1 and "it ran" in answer.stderr
    answer = _bench_tables(checkout, "--only-tables", "decode")
    assert answer.returncode == 2 and "leave the names out" in answer.stderr
    assert "old" in (checkout / "README.md").read_text()
