"""A record stands for a server that runs, and for no other process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nomoat.base.server_records import (
    ServerRecord,
    process_identity,
    read_records,
    remove_record,
    write_record,
)


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def _files(home: Path) -> list[Path]:
    return list((home / "run" / "servers").iterdir())


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = ServerRecord("http://127.0.0.1:11435", os.getpid(), ("smollm2", "qwen"), threads=2)
    write_record(tmp_path, record)
    (read,) = read_records(tmp_path)
    assert (read.url, read.pid, read.models, read.threads) == (record.url, record.pid, record.models, 2)
    assert (read.started, read.identity) == (record.started, process_identity(os.getpid()))
    remove_record(tmp_path, record.pid)
    remove_record(tmp_path, record.pid)
    assert read_records(tmp_path) == []


def test_no_server_has_ever_run_here(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nowhere") == []


def test_a_killed_server_is_forgotten_even_before_anybody_waited_for_it(tmp_path: Path) -> None:
    with _sleeper() as process:
        write_record(tmp_path, ServerRecord("http://127.0.0.1:1", process.pid, ()))
        assert [record.pid for record in read_records(tmp_path)] == [process.pid]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, but is a zombie still
        assert read_records(tmp_path) == [] and _files(tmp_path) == []


def test_another_process_with_the_same_number_is_no_server(tmp_path: Path) -> None:
    write_record(tmp_path, ServerRecord("http://127.0.0.1:1", os.getpid(), ()))
    (path,) = _files(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": "last week"}))
    assert read_records(tmp_path) == [] and _files(tmp_path) == []


def test_a_damaged_record_is_dropped(tmp_path: Path) -> None:
    write_record(tmp_path, ServerRecord("http://127.0.0.1:1", os.getpid(), ()))
    (path,) = _files(tmp_path)
    for text in ("{", "[]", "{}", '{"models": [], "pid": "x", "url": "y", "identity": "z", "more": 1}'):
        path.write_text(text)
        assert read_records(tmp_path) == []
