"""`nomoat run` as scripts and people meet it: the real program, the real model."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nomoat.base.errors import BadFileError
from nomoat.cli.chat_input import LineReader
from nomoat.cli.chat_output import Writer
from nomoat.cli.chat_state import Conversation

PROGRAM = [sys.executable, "-m", "nomoat.cli.main", "run"]
GREEDY = ["--temperature", "0", "--context-length", "512"]


def _run(
    environment: dict[str, str], *arguments: str, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [*PROGRAM, *arguments], env=environment, capture_output=True, timeout=120, check=False, **given
    )


def _json(environment: dict[str, str], *arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
    answer = _run(environment, *arguments, "--json", stdin=stdin)
    (line,) = answer.stdout.decode().splitlines()
    content: dict[str, Any] = json.loads(line)
    assert answer.returncode == ("error" in content), answer.stderr.decode()
    return content


def test_json_is_one_object_with_the_promised_fields(environment: dict[str, str]) -> None:
    answer = _json(environment, "smollm2", "Say hello.", *GREEDY, "--max-tokens", "8", "--seed", "5")
    assert answer["finish_reason"] in {"stop", "length"}
    assert isinstance(answer["text"], str) and answer["text"]
    assert 0 < answer["completion_tokens"] <= 8
    assert answer["prompt_tokens"] > 10
    assert answer["prompt_tokens_per_second"] > 0
    assert answer["tokens_per_second"] > 0
    assert answer["model"] == "smollm2"
    assert answer["digest"].startswith("sha256:")
    assert answer["seed"] == 5
    assert answer["adapters"] == []


def test_the_answer_alone_goes_to_standard_output(environment: dict[str, str]) -> None:
    arguments = ["smollm2", "Say hello.", *GREEDY, "--max-tokens", "8"]
    answer = _run(environment, *arguments, "--verbose")
    expected = _json(environment, *arguments)["text"]
    assert answer.stdout.decode() == expected.rstrip("\n") + "\n"
    assert "tok/s" in answer.stderr.decode()
    assert b"tok/s" not in _run(environment, *arguments).stderr


def test_piped_text_is_the_prompt_or_follows_it(environment: dict[str, str]) -> None:
    short = [*GREEDY, "--max-tokens", "1"]
    alone = _json(environment, "smollm2", *short, stdin=b"Say hello.")
    typed = _json(environment, "smollm2", "Say hello.", *short)
    assert alone["prompt_tokens"] == typed["prompt_tokens"]
    dash = _json(environment, "-", *short, stdin=b"Say hello.")
    assert dash["prompt_tokens"] == typed["prompt_tokens"]
    both = _json(environment, "smollm2", "Say hello.", *short, stdin=b"To the blue whale.")
    assert both["prompt_tokens"] > typed["prompt_tokens"] + 4


def test_the_system_prompt_is_the_templates_own_unless_given(environment: dict[str, str]) -> None:
    short = ["smollm2", "Hi", *GREEDY, "--max-tokens", "1"]
    own = _json(environment, *short)["prompt_tokens"]
    assert _json(environment, *short, "--system", "Be brief.")["prompt_tokens"] < own


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothere", "hi"], "not_found"),
        (["smollm2", "hi", "--temperature", "-1"], "bad_input"),
        (["smollm2", "hi", "--adapter", "nowhere/at/all"], "not_found"),
        (["smollm2", "hi", "--context-length", "99999"], "bad_input"),
        (["smollm2", "word " * 600, "--context-length", "512"], "context_overflow"),
    ],
)
def test_what_goes_wrong_is_an_error_with_a_remedy(
    environment: dict[str, str], arguments: list[str], code: str
) -> None:
    error = _json(environment, *arguments)["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"]


def test_a_truncated_model_is_refused(
    environment: dict[str, str], smollm2_path: Path, tmp_path: Path
) -> None:
    with smollm2_path.open("rb") as whole:
        (tmp_path / "half.gguf").write_bytes(whole.read(1_000_000))
    error = _json(environment, str(tmp_path / "half.gguf"), "hi")["error"]
    assert error["code"] == "bad_file"
    assert "half.gguf" in error["message"]


def test_no_prompt_at_all_is_wrong_usage(environment: dict[str, str]) -> None:
    assert _run(environment, "smollm2").returncode == 2
    assert _run(environment, "smollm2", "--no-such-option").returncode == 2


def test_an_interrupted_run_ends_with_130_and_leaves_no_worker(environment: dict[str, str]) -> None:
    argv = [*PROGRAM, "smollm2", "Count to a thousand.", *GREEDY, "--max-tokens", "400"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        (worker,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 130
        assert not worker.is_running()


# -- the conversation ----------------------------------------------------------------------------


class _Terminal:
    """The program in a terminal, and what it has written there."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.execvpe(PROGRAM[0], [*PROGRAM, *arguments], environment)
        self.screen = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Read until `text` comes after what was waited for last; returns what came up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.screen[self._seen :]:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.screen}"
            if select.select([self._file], [], [], 0.2)[0]:
                try:
                    self.screen += os.read(self._file, 65536).decode("utf-8", "replace")
                except OSError:  # the program has ended
                    assert text in self.screen[self._seen :], f"no {text!r} in:\n{self.screen}"
        begin, self._seen = self._seen, self.screen.index(text, self._seen) + len(text)
        return self.screen[begin : self._seen]

    def press_until(self, key: str, text: str) -> None:
        """Press the key until `text` comes: readline misses a signal between writing its prompt and waiting."""
        for _ in range(20):
            self.type(key)
            with contextlib.suppress(AssertionError):
                self.wait_for(text, 3)
                return
        pytest.fail(f"no {text!r} in:\n{self.screen}")

    def status(self) -> int:
        """Wait for the program's end."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        pytest.fail(f"the program goes on:\n{self.screen}")

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[_Terminal]:
    running = _Terminal(environment, "smollm2", *GREEDY, "--max-tokens", "300")
    running.wait_for(">>> ")
    yield running
    running.close()


def test_a_conversation_remembers_and_ends_with_ctrl_d(
    terminal: _Terminal, environment: dict[str, str]
) -> None:
    terminal.type("Say hello.\n")
    terminal.wait_for("tok/s")
    terminal.wait_for(">>> ")
    terminal.type("And again?\n")
    assert "remembered" in terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.status() == 0
    history = Path(environment["NOMOAT_HOME"]) / "history"
    assert "Say hello." in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_not_the_conversation(terminal: _Terminal) -> None:
    terminal.type("Write a long story about a dragon and a castle.\n")
    terminal.wait_for("\n")  # the echo of what was typed
    terminal.wait_for(" ")  # the answer has begun, and has hundreds of tokens to go
    terminal.type("\x03")
    terminal.wait_for(">>> ")
    terminal.press_until("\x03", "Ctrl-D leaves.")
    terminal.wait_for(">>> ")
    terminal.type("/quit\n")
    assert terminal.status() == 0


def test_commands_change_the_conversation(terminal: _Terminal, tmp_path: Path) -> None:
    def command(text: str) -> str:
        terminal.type(text + "\n")
        return terminal.wait_for(">>> ")

    assert "/retry" in command("/help")
    assert "Talk like a pirate." in command("/system Talk like a pirate.")
    assert "error" in command("/adapter nowhere/at/all")
    assert "no adapter" in command("/stack")
    assert "did you mean /reset" in command("/rest")
    assert "error" in command("/retry")
    assert "tok/s" in command('"""two\nlines"""')
    assert "2 messages" in command(f"/save {tmp_path}/chat.json")
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert saved["system"] == "Talk like a pirate."
    assert saved["messages"][0] == {"role": "user", "content": "two\nlines"}
    assert "tok/s" in command("/retry")
    assert "forgotten" in command("/reset")
    assert "2 messages" in command(f"/load {tmp_path}/chat.json")
    assert "error" in command(f"/load {tmp_path}/missing.json")
    terminal.type("/quit\n")
    assert terminal.status() == 0


def test_a_message_that_does_not_fit_leaves_the_conversation_usable(terminal: _Terminal) -> None:
    terminal.type('"""\n' + "word word word word word word word word\n" * 80 + '"""\n')
    terminal.wait_for("error:")
    terminal.wait_for(">>> ")
    terminal.type("Say hello.\n")
    terminal.wait_for("tok/s")
    terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.status() == 0


# -- parts ---------------------------------------------------------------------------------------


def test_text_between_triple_quotes_is_one_message(tmp_path: Path) -> None:
    lines = iter(['"""first', "second", 'third"""', "plain"])
    reader = LineReader(tmp_path / "history", lambda prompt: next(lines))
    assert reader.read() == "first\nsecond\nthird"
    assert reader.read() == "plain"


def test_a_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    class Screen:
        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    screen = Screen()
    Writer(screen).write("red\x1b[31m\x07\tand\nblue\x9b0m")  # type: ignore[arg-type]
    assert screen.text == "red[31m\tand\nblue0m"


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"messages": [{"role": "root", "content": ""}]}', '{"messages": [], "system": 3}']
)
def test_a_file_that_holds_no_conversation_changes_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "chat.json"
    path.write_text(content)
    conversation = Conversation("system", [], [{"role": "user", "content": "kept"}])
    with pytest.raises(BadFileError):
        conversation.load(path)
    assert conversation.messages == [{"role": "user", "content": "kept"}]
