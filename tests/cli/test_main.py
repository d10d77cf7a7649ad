"""What scripts may rely on: exit status, one JSON object, nothing but results on standard output."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import click
import pytest

from nomoat.base.errors import InputError
from nomoat.cli import main as program
from nomoat.cli.main import VERBS, main


@pytest.fixture
def verb_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Replaces the verb `list` by one that does as it is told."""

    def install(action: Callable[[], Any]) -> None:
        @click.command()
        @click.option("--json", "as_json", is_flag=True)
        @click.argument("words", nargs=-1)
        def command(as_json: bool, words: tuple[str, ...]) -> Any:
            return action()

        module = types.ModuleType("a_verb_of_the_test")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(program.VERBS, "list", (module.__name__, ""))

    return install


def _fails(error: BaseException) -> Callable[[], Any]:
    def action() -> Any:
        raise error

    return action


def _status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_success_is_status_0(verb_that: Any) -> None:
    verb_that(lambda: None)
    assert _status("list") == 0


def test_what_a_verb_returns_is_a_status_only_if_it_is_a_number(verb_that: Any) -> None:
    verb_that(lambda: {"models": []})
    assert _status("list") == 0
    verb_that(lambda: 3)
    assert _status("list") == 3


def test_an_error_is_two_lines_and_status_1(verb_that: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb_that(_fails(InputError("notes/: holds no text", "name a folder with .md files")))
    assert _status("list") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: notes/: holds no text\nhint:  name a folder with .md files\n"


def test_an_error_is_one_json_object_for_a_script(verb_that: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb_that(_fails(InputError("no text", "add some")))
    assert _status("list", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": "bad_input", "message": "no text", "hint": "add some"}}
    assert err == ""


@pytest.mark.parametrize("arguments", [("--debug", "list"), ("list", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(
    verb_that: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    verb_that(_fails(InputError("no text")))
    assert _status(*arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: no text\n")


def test_what_follows_two_dashes_is_text_and_no_option(
    verb_that: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(_fails(InputError("no text")))
    assert _status("list", "--", "--json", "--debug") == 1
    assert capsys.readouterr() == ("", "error: no text\n")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_status_130(
    verb_that: Any, capsys: pytest.CaptureFixture[str], interruption: BaseException
) -> None:
    verb_that(_fails(interruption))
    assert _status("list") == 130
    assert "interrupted" in capsys.readouterr().err
    assert _status("list", "--json") == 130
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "interrupted"


def test_an_unknown_verb_is_status_2_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("tuen") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Did you mean 'tune'?" in err


def test_an_unknown_option_is_status_2(verb_that: Any) -> None:
    verb_that(lambda: None)
    assert _status("list", "--colour") == 2


def test_wrong_usage_with_json_is_status_2_and_one_object(
    verb_that: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(lambda: None)
    assert _status("list", "--json", "--colour") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert "--colour" in error["message"]
    assert "nomoat list --help" in error["hint"]


def test_a_full_disk_is_told_as_such_wherever_it_was_noticed(
    verb_that: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(_fails(OSError(errno.ENOSPC, "No space left on device", "out/adapter.gguf")))
    assert _status("list", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "disk_full"
    assert "out/adapter.gguf" in error["message"]


def test_a_fault_of_the_program_is_status_1_with_its_traceback(
    verb_that: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(_fails(ZeroDivisionError("division by zero")))
    assert _status("list", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert "Traceback" in err


def test_help_is_status_0_and_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("--help") == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_a_reader_that_leaves_early_is_met_with_silence() -> None:
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "nomoat.cli.main", "--help"]
    os.close(reading)
    answer = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert answer.stderr == b""
    assert answer.returncode == 1
