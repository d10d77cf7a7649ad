"""Who may start a server where, and which names are this machine's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.guard import Policy, is_loopback, read_api_keys


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST", "a.localhost"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "192.168.1.2", "localhost.evil.example", "example.com"]
)
def test_names_of_others(host: str) -> None:
    assert not is_loopback(host)


def test_an_open_address_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="API key") as caught:
        Policy("0.0.0.0")
    assert "--api-key-file" in caught.value.hint
    (tmp_path / "keys").write_text("k\n")
    Policy("0.0.0.0", read_api_keys(tmp_path / "keys"))


def test_a_file_of_keys_must_hold_one(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# none yet\n")
    with pytest.raises(InputError):
        read_api_keys(tmp_path / "empty")
    with pytest.raises(NotFoundError):
        read_api_keys(tmp_path / "missing")


def test_the_command_refuses_an_open_address_at_once() -> None:
    argv = [sys.executable, "-m", "nomoat.cli.main", "serve", "--host", "0.0.0.0"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "no API key" in answer.stderr and "--api-key-file" in answer.stderr
