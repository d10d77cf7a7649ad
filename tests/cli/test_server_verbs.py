"""`ps` and `stop` on real processes that behave as a server does: a record, and a graceful end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomoat.base.settings import child_environment

_NOMOAT = [sys.executable, "-m", "nomoat.cli.main"]
_SERVER = """
import os, signal, sys, time
from pathlib import Path
from nomoat.base.server_records import ServerRecord, remove_record, write_record

home, port, obeys = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "obeys"
end = []
signal.signal(signal.SIGTERM, lambda *_: end.append(1) if obeys else None)
write_record(home, ServerRecord(f"http://127.0.0.1:{port}", os.getpid(), ("smollm2",), threads=2))
print("ready", flush=True)
while not end:
    time.sleep(0.02)
remove_record(home, os.getpid())
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a stand-in for a server; whatever is left is killed."""
    running = []

    def start(port: int = 1, behaviour: str = "obeys") -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", _SERVER, str(tmp_path), str(port), behaviour]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def _nomoat(home: Path, *arguments: str, status: int = 0) -> str:
    environment = child_environment(NOMOAT_HOME=str(home), NO_COLOR="1")
    done = subprocess.run([*_NOMOAT, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout


def _json(home: Path, *arguments: str, status: int = 0) -> Any:
    return json.loads(_nomoat(home, *arguments, "--json", status=status))


def test_ps_shows_what_runs(tmp_path: Path, start: Start) -> None:
    assert _json(tmp_path, "ps") == {"servers": []}
    assert "no server is running" in _nomoat(tmp_path, "ps")
    process = start(port=4711)
    (server,) = _json(tmp_path, "ps")["servers"]
    assert (server["url"], server["pid"]) == ("http://127.0.0.1:4711", process.pid)
    assert (server["models"], server["threads"]) == (["smollm2"], 2)
    assert server["memory_bytes"] > 1e6 and server["uptime_seconds"] >= 0
    assert "http://127.0.0.1:4711" in _nomoat(tmp_path, "ps")


def test_stop_ends_the_only_server_and_waits_for_it(tmp_path: Path, start: Start) -> None:
    process = start()
    (stopped,) = _json(tmp_path, "stop")["stopped"]
    assert (stopped["pid"], stopped["forced"]) == (process.pid, False)
    assert process.wait(10) == 0
    assert _json(tmp_path, "stop", status=1)["error"]["code"] == "not_found"
    assert _json(tmp_path, "stop", "--all") == {"stopped": []}


def test_among_several_servers_one_is_named_or_all_are_meant(tmp_path: Path, start: Start) -> None:
    first, second, third = (start(port=port) for port in (1, 2, 3))
    error = _json(tmp_path, "stop", status=1)["error"]
    assert error["code"] == "bad_input" and str(second.pid) in error["message"]
    assert _json(tmp_path, "stop", "7", status=1)["error"]["code"] == "not_found"
    assert "http://127.0.0.1:2" in _nomoat(tmp_path, "stop", "http://127.0.0.1:2/")
    assert second.wait(10) == 0 and first.poll() is None
    assert _json(tmp_path, "stop", str(first.pid))["stopped"][0]["pid"] == first.pid
    assert [entry["pid"] for entry in _json(tmp_path, "stop", "--all")["stopped"]] == [third.pid]
    assert _json(tmp_path, "ps") == {"servers": []}


def test_a_server_that_does_not_end_is_killed_only_on_demand(tmp_path: Path, start: Start) -> None:
    process = start(behaviour="stubborn")
    error = _json(tmp_path, "stop", "--wait", "0.2", status=1)["error"]
    assert "still finishing" in error["message"] and "--force" in error["hint"]
    assert process.poll() is None
    (stopped,) = _json(tmp_path, "stop", "--wait", "0.2", "--force")["stopped"]
    assert stopped["forced"] is True
    assert process.wait(10) < 0
    assert _json(tmp_path, "ps") == {"servers": []}


def test_a_real_server_is_found_has_nothing_open_to_others_and_ends_gracefully(
    tmp_path: Path, smollm2_path: Path
) -> None:
    environment = child_environment(NOMOAT_HOME=str(tmp_path), NOMOAT_THREADS="1")
    argv = [*_NOMOAT, "serve", str(smollm2_path), "--port", "0", "--json"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            (server,) = _json(tmp_path, "ps")["servers"]
            assert {name: server[name] for name in ("url", "pid", "models")} == ready
            summary, *sockets = (
                one for one in _json(tmp_path, "doctor")["findings"] if one["topic"] == "network"
            )
            assert process.pid in summary["facts"]["processes"]
            (own,) = (one for one in sockets if ready["url"].removeprefix("http://") in one["text"])
            assert own["state"] == "ok"
            (stopped,) = _json(tmp_path, "stop", ready["url"])["stopped"]
            assert (stopped["pid"], stopped["forced"]) == (process.pid, False)
            assert process.wait(10) == 0
        finally:
            process.kill()  # whatever went wrong: leaving the block waits for its end
    assert _json(tmp_path, "ps") == {"servers": []}
