"""What a person can type besides messages: /help and its kin."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nomoat.base.errors import InputError
from nomoat.cli.chat_state import Conversation
from nomoat.run.adapters import AdapterRef, parse_adapter

if TYPE_CHECKING:
    from nomoat.run.engine import Engine

__all__ = ["Commands", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a command leads to: a line to show, a question to ask (again), or the end."""

    say: str = ""
    ask: str | None = None
    new_seed: bool = False
    leave: bool = False


class Commands:
    """Runs commands on a conversation. A refused command changes nothing."""

    def __init__(self, engine: Engine, conversation: Conversation) -> None:
        self._engine, self._conversation = engine, conversation
        self._commands: dict[str, tuple[str, str, Callable[[str], Outcome]]] = {
            "/help": ("", "this list", self._help),
            "/adapter": ("[NAME[:SCALE]]", "use this adapter alone; without a name, none", self._adapter),
            "/stack": ("[NAME[:SCALE] ...]", "use several adapters; without names, show them", self._stack),
            "/system": ("[TEXT]", "set the system prompt; without a text, show it", self._system),
            "/save": ("FILE", "write the conversation to a file", self._save),
            "/load": ("FILE", "go on with a conversation from a file", self._load),
            "/retry": ("", "answer the last question anew", self._retry),
            "/reset": ("", "forget the conversation", self._reset),
            "/quit": ("", "leave (Ctrl-D does it, too)", self._quit),
        }

    def names(self) -> list[str]:
        """All commands, for completion."""
        return list(self._commands)

    def run(self, line: str) -> Outcome:
        """Run `/name arguments`. Raises `NomoatError` where it cannot be done."""
        name, _, arguments = line.strip().partition(" ")
        if name not in self._commands:
            near = difflib.get_close_matches(name, self._commands, n=1)
            raise InputError(f"no command {name}", f"did you mean {near[0]}?" if near else "/help lists them")
        return self._commands[name][2](arguments.strip())

    def _help(self, arguments: str) -> Outcome:
        rows = [(f"{name} {takes}".strip(), line) for name, (takes, line, _) in self._commands.items()]
        rows.append(('"""', 'begin a message of several lines, which """ ends'))
        rows.append(("Ctrl-C", "stop the answer"))
        width = max(len(left) for left, _ in rows)
        return Outcome("\n".join(f"{left:<{width}}  {right}" for left, right in rows))

    def _adapter(self, arguments: str) -> Outcome:
        texts = _words(arguments)
        if len(texts) > 1:
            raise InputError("/adapter takes one adapter", "/stack takes several")
        return self._use(texts)

    def _stack(self, arguments: str) -> Outcome:
        return self._use(_words(arguments)) if arguments else Outcome(self._adapters_in_words())

    def _use(self, texts: list[str]) -> Outcome:
        refs = [parse_adapter(text) for text in texts]
        known = set(self._engine.notices)
        for ref in refs:
            self._engine.check_adapter(ref)
        self._conversation.adapters = refs
        new = [notice for notice in self._engine.notices if notice not in known]
        return Outcome("\n".join([*new, self._adapters_in_words()]))

    def _system(self, arguments: str) -> Outcome:
        if arguments:
            self._conversation.system = arguments
        return Outcome(self._conversation.system or "the model's own system prompt")

    def _save(self, arguments: str) -> Outcome:
        path = _path(arguments, "/save")
        self._conversation.save(path, self._engine.stored().name)
        return Outcome(f"{len(self._conversation.messages)} messages written to {path}")

    def _load(self, arguments: str) -> Outcome:
        path = _path(arguments, "/load")
        self._conversation.load(path)
        return Outcome(f"{len(self._conversation.messages)} messages read from {path}")

    def _retry(self, arguments: str) -> Outcome:
        question = self._conversation.take_back()
        if question is None:
            raise InputError("there is no question to answer anew", "ask one")
        return Outcome(ask=question, new_seed=True)

    def _reset(self, arguments: str) -> Outcome:
        self._conversation.messages.clear()
        return Outcome("forgotten")

    def _quit(self, arguments: str) -> Outcome:
        return Outcome(leave=True)

    def _adapters_in_words(self) -> str:
        return ", ".join(map(_words_for, self._conversation.adapters)) or "no adapter"


def _words_for(ref: AdapterRef) -> str:
    return f"{ref.path}:{ref.scale:g}"


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise InputError(f"{arguments}: {error}", "close the quotes") from error


def _path(arguments: str, command: str) -> Path:
    if not arguments:
        raise InputError(f"{command} needs a file", f"{command} chat.json, for instance")
    return Path(arguments).expanduser()
