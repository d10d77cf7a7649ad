"""nomoat needs no network and asks for none.

Each command runs in a network namespace without routes, so it proves that it works offline; and with an
audit hook in every Python process it starts, so it proves that it did not even try.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nomoat.base.settings import Settings
from nomoat.share.client.pulled import Pulled, PulledNames
from nomoat.share.client.references import parse_reference
from nomoat.store.store import Store

# Loaded by every Python process of the command, the engine's worker too. It writes down each address outside
# this machine that the process looks up or speaks to.
AUDIT = textwrap.dedent(
    """
    import os, sys

    def _local(event, details):
        address = details[0] if event == "socket.getaddrinfo" else details[1]
        if isinstance(address, (str, bytes)) and event != "socket.getaddrinfo":
            return True  # a Unix socket
        host = address if isinstance(address, (str, bytes, type(None))) else address[0]
        host = host.decode() if isinstance(host, bytes) else host
        return host in (None, "", "localhost", "::1") or host.startswith("127.")

    def _watch(event, details):
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}:
            if not _local(event, details):
                with open(os.environ["NOMOAT_TEST_AUDIT"], "a") as log:
                    log.write(f"{event} {details[-1]!r} by {sys.argv}\\n")

    sys.addaudithook(_watch)
    with open(os.environ["NOMOAT_TEST_AUDIT"] + ".processes", "a") as log:
        log.write(f"{os.getpid()}\\n")
    """
)
COMMANDS = [
    pytest.param(["list", "--json"], id="list"),
    pytest.param(["show", "smollm2", "--json"], id="show"),
    pytest.param(["ps", "--json"], id="ps"),
    pytest.param(["doctor", "--deep", "--json"], id="doctor"),
    pytest.param(["run", "smollm2", "Hello", "--max-tokens", "2", "--json"], id="run"),
    pytest.param(
        ["measure", "smollm2", "--text", "notes", "--tasks", "text", "--out", "out", "--json"], id="measure"
    ),
    pytest.param(
        ["tune", "notes", "--out", "out", "--max-steps", "1", "--batch-tokens", "64", "--json"], id="tune"
    ),
]
# Names on hubs, of things that were pulled before: from then on nobody is asked.
PULLED = [
    pytest.param(["run", "hf.co/me/small", "Hello", "--max-tokens", "2", "--json"], id="run"),
    pytest.param(
        ["run", "hub.example.org/me/small:Q4_1", "Hello", "--max-tokens", "2", "--json"], id="run-tagged"
    ),
    pytest.param(
        [
            "tune",
            "notes",
            "--base",
            "hf.co/me/small",
            "--out",
            "out",
            "--max-steps",
            "1",
            "--batch-tokens",
            "64",
            "--json",
        ],
        id="tune",
    ),
]
NOT_PULLED = [
    ["run", "hf.co/me/other", "Hello", "--json"],
    ["run", "smollm2", "Hello", "--adapter", "hub.example.org/me/notes", "--json"],
    ["tune", "notes", "--base", "hf.co/me/other", "--out", "out", "--json"],
]


def _namespace() -> list[str]:
    """The command that leads into an empty network namespace; skips where that is not permitted."""
    for argv in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*argv, "true"], stderr=subprocess.DEVNULL).returncode == 0
        ):
            return argv
    pytest.skip("unshare is missing or may not make a network namespace here")


@pytest.fixture
def offline(tmp_path: Path) -> tuple[list[str], dict[str, str], Path]:
    """Argument prefix, environment and log of a process that is offline and watched."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(AUDIT)
    (tmp_path / "notes").mkdir()
    for number in range(4):
        (tmp_path / "notes" / f"{number}.md").write_text(
            f"# Note {number}\n\nThe boiler needs water on day {number}.\n"
        )
    log = tmp_path / "audit.log"
    environment = {
        **os.environ,
        "NOMOAT_HOME": str(tmp_path / "home"),
        "NOMOAT_EMBEDDED": "as-shipped",
        "NOMOAT_TEST_AUDIT": str(log),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]),
    }
    return [*_namespace(), sys.executable], environment, log


Offline = tuple[list[str], dict[str, str], Path]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_command_works_without_a_network_and_asks_for_none(offline: Offline, arguments: list[str]) -> None:
    prefix, environment, log = offline
    if arguments[0] == "run":  # the search for the model's faster form takes its time: once is enough
        del environment["NOMOAT_EMBEDDED"]
    argv = [*prefix, "-m", "nomoat.cli.main", *arguments]
    answer = subprocess.run(
        argv, cwd=log.parent, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert isinstance(json.loads(answer.stdout.splitlines()[-1]), (dict, list))
    assert not log.exists(), log.read_text()
    watched = log.with_name("audit.log.processes").read_text().split()
    assert len(watched) >= (2 if arguments[0] in {"run", "tune", "measure"} else 1), (
        "the engine's worker was not watched"
    )


def _pulled_before(home: Path) -> None:
    """The embedded model, as if it had been pulled from two hubs."""
    store = Store(home, Settings.from_environment())
    digest = store.resolve("smollm2").digest
    for name in ("hf.co/me/small", "hub.example.org/me/small:Q4_1"):
        reference = parse_reference(name)
        pulled = Pulled(name, "model", "smollm2", "c" * 40, digest, reference.repo_text)
        PulledNames(store).keep(pulled, [reference])


@pytest.mark.parametrize("arguments", PULLED)
def test_what_was_pulled_is_used_without_a_network(offline: Offline, arguments: list[str]) -> None:
    log = offline[2]
    _pulled_before(log.parent / "home")
    answer = _run_offline(offline, arguments)
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert isinstance(json.loads(answer.stdout.splitlines()[-1]), dict)
    assert not log.exists(), log.read_text()


@pytest.mark.parametrize("arguments", NOT_PULLED, ids=lambda arguments: " ".join(arguments[:2]))
def test_what_was_not_pulled_is_not_looked_for_without_a_question(
    offline: Offline, arguments: list[str]
) -> None:
    answer = _run_offline(offline, arguments)
    error = json.loads(answer.stdout.splitlines()[-1])["error"]
    assert (answer.returncode, error["code"]) == (1, "not_found") and error["hint"].startswith("nomoat pull ")
    assert not offline[2].exists(), offline[2].read_text()


def _run_offline(offline: Offline, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    prefix, environment, log = offline
    return subprocess.run(
        [*prefix, "-m", "nomoat.cli.main", *arguments], cwd=log.parent, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


SERVE = textwrap.dedent(
    """
    import json, socket, subprocess, sys
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    argv = [sys.executable, "-m", "nomoat.cli.main", "serve", "smollm2", "--port", "0", "--json"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        host, port = json.loads(server.stdout.readline())["url"].removeprefix("http://").split(":")
        body = b'{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}'
        head = f"POST /v1/chat/completions HTTP/1.0\\r\\nHost: localhost\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
            print(connection.makefile("rb").read().splitlines()[-1].decode())
    finally:
        server.terminate()
    sys.exit(server.wait())
    """
)


def test_a_server_works_without_a_network_and_asks_for_none(offline: Offline) -> None:
    if not shutil.which("ip", path=os.pathsep.join([os.environ.get("PATH", ""), "/sbin", "/usr/sbin"])):
        pytest.skip("ip is missing, so the loopback interface of the namespace stays down")
    prefix, environment, log = offline
    environment["PATH"] += os.pathsep + os.pathsep.join(["/sbin", "/usr/sbin"])
    answer = subprocess.run(
        [*prefix, "-c", SERVE], cwd=log.parent, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert json.loads(answer.stdout.splitlines()[-1])["choices"][0]["message"]["content"]
    assert not log.exists(), log.read_text()
    assert len(log.with_name("audit.log.processes").read_text().split()) >= 3, "the worker was not watched"


def test_the_guard_itself_notices_a_call_to_the_outside(offline: Offline) -> None:
    prefix, environment, log = offline
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    argv = [*prefix, "-c", program]
    answer = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "unreachable" in answer.stderr
    assert "192.0.2.1" in log.read_text()
