"""Where prompts come from: the command line, a pipe, or a person at a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from nomoat.base.errors import InputError

__all__ = ["LineReader", "read_prompt"]

_PATIENCE_SECONDS = 5.0
_QUOTES = '"""'


def read_prompt(prompt: str | None) -> str:
    """The prompt of a run without conversation: PROMPT, piped text, or PROMPT and then the piped text.

    Beside a PROMPT a pipe may have nothing to say, ever (a service manager's, say): it must begin in time.
    """
    if prompt is None or prompt == "-":
        return _standard_input()
    if not _has_pipe():
        return prompt
    ready, _, _ = select.select([sys.stdin], [], [], _PATIENCE_SECONDS)
    if not ready:
        click.echo("nothing came on standard input: going on without it (`-` as prompt waits)", err=True)
        return prompt
    piped = _standard_input()
    return f"{prompt}\n\n{piped}" if piped.strip() else prompt


def _has_pipe() -> bool:
    """Whether standard input is a pipe or a file: somebody may have put a text there."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or replaced by a test
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _standard_input() -> str:
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is no UTF-8 text (byte {error.start})",
                         "convert it first, with iconv for instance") from error  # fmt: skip


class LineReader:
    """Reads a person's messages, with line editing and a history that outlives the program."""

    def __init__(self, history: Path, read_line: Callable[[str], str] = input) -> None:
        self._history, self._read_line = history, read_line
        self._readline = _readline()
        if self._readline is not None:
            with contextlib.suppress(OSError):
                self._readline.read_history_file(str(history))

    def read(self) -> str:
        '''One message: a line, or everything from """ to """. Raises `EOFError` at Ctrl-D.'''
        line = self._read_line(">>> ")
        if not line.lstrip().startswith(_QUOTES):
            return line
        text = line.lstrip()[len(_QUOTES) :]
        while _QUOTES not in text:
            text += "\n" + self._read_line("... ")
        return text[: text.index(_QUOTES)].strip("\n")

    def complete(self, words: Sequence[str]) -> None:
        """Let Tab complete these words, at the beginning of a line."""
        if self._readline is None:
            return

        def match(text: str, number: int) -> str | None:
            found = [word for word in words if text and word.startswith(text)]
            return found[number] if number < len(found) else None

        self._readline.set_completer_delims(" ")
        self._readline.set_completer(match)
        self._readline.parse_and_bind("tab: complete")

    def save(self) -> None:
        """Keep the history; one that cannot be written is not worth an error."""
        if self._readline is None:
            return
        with contextlib.suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._readline.set_history_length(2000)
            self._readline.write_history_file(str(self._history))
            self._history.chmod(0o600)


def _readline() -> Any:
    """Python's readline module, None where it was built without."""
    try:
        import readline
    except ImportError:
        return None
    return readline
