"""Folders of one run: gone afterwards, swept after a real kill -9, and never taken from a run that lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.base.work_folders import sweep_work_folders, work_folder

_HOLDS = """
import sys, time
from pathlib import Path
from nomoat.base.work_folders import work_folder

with work_folder(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""
_MANY = """
import sys
from pathlib import Path
from nomoat.base.work_folders import work_folder

for number in range(200):
    with work_folder(Path(sys.argv[1])) as folder:
        (folder / "file").write_text(str(number))
        assert (folder / "file").read_text() == str(number)
"""


def test_it_is_empty_and_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyError), work_folder(tmp_path / "new") as folder:
        assert folder.is_absolute() and list(folder.iterdir()) == []
        (folder / "file").write_text("x")
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_run_left_is_swept_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    killed, lives = (_started(_HOLDS, tmp_path) for _ in range(2))
    left, kept = (Path(_line(process)) for process in (killed, lives))
    try:
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(10) == -signal.SIGKILL and (left / "deep" / "file").is_file()
        with work_folder(tmp_path) as own:
            assert set(tmp_path.iterdir()) == {own, kept}
        assert sweep_work_folders(tmp_path) == 0 and (kept / "deep" / "file").is_file()
    finally:
        lives.kill()
        lives.wait()
    assert sweep_work_folders(tmp_path) == 1 and list(tmp_path.iterdir()) == []


def test_runs_side_by_side_take_nothing_from_each_other(tmp_path: Path) -> None:
    """Each begins by sweeping, also in the moment between another one's making its folder and locking it."""
    processes = [_started(_MANY, tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep_work_folders(tmp_path / "none") == 0


def _started(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
