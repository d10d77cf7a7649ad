"""The doctor finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nomoat.base.server_records import ServerRecord, write_record
from nomoat.base.settings import child_environment
from nomoat.formats.gguf_write import write_gguf

_NOMOAT = [sys.executable, "-m", "nomoat.cli.main"]


class Patient:
    """A store of its own, and a doctor for it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def nomoat(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = child_environment(NOMOAT_HOME=str(self.home), NO_COLOR="1", **variables)
        argv = [*_NOMOAT, *map(str, arguments)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def examine(self, *arguments: str, status: int = 0, **variables: str) -> list[dict[str, Any]]:
        answer = self.nomoat("doctor", "--json", *arguments, **variables)
        assert answer.returncode == status, answer.stderr + answer.stdout
        report = json.loads(answer.stdout)
        findings: list[dict[str, Any]] = report["findings"]
        for state, count in (("warning", report["warnings"]), ("problem", report["problems"])):
            assert count == sum(finding["state"] == state for finding in findings)
        assert all(finding["remedy"] for finding in findings if finding["state"] != "ok")
        return findings


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path / "home")


@pytest.fixture
def model(patient: Patient, tmp_path: Path) -> Path:
    """A stored model's file, which somebody may damage."""
    source = tmp_path / "m.gguf"
    sizes = ("context_length", "embedding_length", "block_count", "feed_forward_length")
    metadata = {
        "general.architecture": "qwen2", "qwen2.attention.head_count": 2,
        **{f"qwen2.{name}": 32 for name in sizes},
    }  # fmt: skip
    write_gguf(source, metadata, {"output.weight": np.zeros((64, 64), np.float32)})
    assert patient.nomoat("import", source, "--name", "m").returncode == 0
    source.unlink()
    return next(path for path in (patient.home / "blobs" / "sha256").iterdir())


def _texts(findings: list[dict[str, Any]], state: str) -> str:
    return "\n".join(finding["text"] for finding in findings if finding["state"] == state)


def _fact(findings: list[dict[str, Any]], name: str) -> Any:
    return next(finding["facts"][name] for finding in findings if name in finding["facts"])


def test_a_healthy_machine_has_no_problems(patient: Patient, model: Path) -> None:
    findings = patient.examine("--deep")
    assert {finding["topic"] for finding in findings} == {
        "machine", "installation", "kernels", "store", "network"
    }  # fmt: skip
    assert _fact(findings, "cores") >= 1 and _fact(findings, "available_bytes") > 0
    assert _fact(findings, "features") and _fact(findings, "library")
    assert "m (F32" in _texts(findings, "ok")
    words = patient.nomoat("doctor").stdout
    assert "no problems" in words and "built" in words and "\x1b" not in words


def test_looking_changes_nothing(patient: Patient) -> None:
    patient.examine()
    assert not patient.home.exists()


def test_a_changed_file_is_found_by_its_digest(patient: Patient, model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert "m (F32" in _texts(patient.examine(), "ok")
    assert "content has changed" in _texts(patient.examine("--deep", status=1), "problem")


def test_a_truncated_file_a_missing_one_and_a_damaged_record_are_problems(
    patient: Patient, model: Path
) -> None:
    model.write_bytes(model.read_bytes()[:100])
    assert "another size" in _texts(patient.examine(status=1), "problem")
    model.unlink()
    assert "is gone" in _texts(patient.examine(status=1), "problem")
    (patient.home / "models" / "m.json").write_text("{")
    assert "is no record" in _texts(patient.examine(status=1), "problem")


def test_variables_that_do_nothing_or_harm_are_named(patient: Patient) -> None:
    findings = patient.examine(NOMOAT_THREAD="2", NOMOAT_THREADS="many", GOMP_SPINCOUNT="300000")
    warnings = {finding["text"]: finding["remedy"] for finding in findings if finding["state"] == "warning"}
    assert warnings["NOMOAT_THREAD=2 means nothing to nomoat"] == "did you mean NOMOAT_THREADS?"
    assert any(text.startswith("NOMOAT_THREADS=many is ignored") for text in warnings)
    assert any(text.startswith("GOMP_SPINCOUNT=300000: threads spin") for text in warnings)


@pytest.fixture
def listening(patient: Patient) -> Iterator[list[socket.socket]]:
    """This very test process plays a server: what it listens on, the doctor must see."""
    sockets: list[socket.socket] = []
    write_record(patient.home, ServerRecord("http://127.0.0.1:1", os.getpid(), ()))
    yield sockets
    for one in sockets:
        one.close()


def _examined_alone(patient: Patient) -> list[dict[str, Any]]:
    """What the doctor says while no server of another test is open to the network: it sees those too."""
    for _ in range(60):
        findings = patient.examine()
        pids = {
            finding["facts"].get("pid", os.getpid())
            for finding in findings
            if finding["topic"] == "network" and finding["state"] != "ok"
        }
        if pids <= {os.getpid()}:
            return findings
        time.sleep(0.5)
    pytest.fail(f"the processes {pids} stay open to the network")


def test_a_server_on_loopback_is_closed_to_the_network(
    patient: Patient, listening: list[socket.socket]
) -> None:
    listening.append(socket.create_server(("127.0.0.1", 0)))
    findings = _examined_alone(patient)
    address = f"127.0.0.1:{listening[0].getsockname()[1]}"
    assert address in {one["local"] for one in _fact(findings, "sockets")}
    assert "network" not in {finding["topic"] for finding in findings if finding["state"] != "ok"}


def test_a_server_that_others_can_reach_is_a_warning(
    patient: Patient, listening: list[socket.socket]
) -> None:
    listening.append(socket.create_server(("0.0.0.0", 0)))
    port = listening[0].getsockname()[1]
    assert f"can be reached from other machines at 0.0.0.0:{port}" in _texts(patient.examine(), "warning")


def test_every_socket_that_listens_is_told_beside_one_that_is_open(
    patient: Patient, listening: list[socket.socket]
) -> None:
    listening += [socket.create_server((host, 0)) for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0")]
    listening += [_bound(socket.AF_INET6, socket.SOCK_STREAM, "::1"), _bound(socket.AF_INET6, socket.SOCK_STREAM, "::"),
                  _bound(socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.0.0.1"),
                  _bound(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
                  _bound(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0")]  # fmt: skip
    with socket.create_connection(listening[0].getsockname()) as client, listening[0].accept()[0]:
        findings = patient.examine()
        connected = f"127.0.0.1:{client.getsockname()[1]}"
    wanted = {}
    for one in listening:
        host, port = one.getsockname()[:2]
        is_open = host in {"0.0.0.0", "::"}
        wanted[f"{host}:{port}"] = ("warning" if is_open else "ok", is_open)
    # This process may also hold servers of other tests.
    mine = (finding for finding in findings if finding["facts"].get("pid") == os.getpid())
    own = [finding for finding in mine if finding["facts"]["local"] in wanted]
    told = {finding["facts"]["local"]: (finding["state"], finding["facts"]["is_outside"]) for finding in own}
    assert told == wanted and len(own) == len(listening) == 8
    assert connected in {each["local"] for each in _fact(findings, "sockets")}, "told to programs alone"
    for finding in own:
        words = "can be reached from" if finding["facts"]["is_outside"] else "other machines cannot reach"
        assert words in finding["text"]


def _bound(family: int, kind: int, host: str) -> socket.socket:
    one = socket.socket(family, kind)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind((host, 0))
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one
