"""The conversation at a terminal: read, answer, repeat. Ctrl-C stops an answer, Ctrl-D ends it all."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from nomoat.base.errors import NomoatError
from nomoat.cli.chat_commands import Commands, Outcome
from nomoat.cli.chat_input import LineReader
from nomoat.cli.chat_output import Writer, figures
from nomoat.cli.chat_state import Conversation
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.generation import Generation
from nomoat.run.sampling import SamplingParams

__all__ = ["Chat", "chat"]


def chat(
    engine: Engine, adapters: Sequence[AdapterRef], sampling: SamplingParams, system: str | None
) -> None:
    """Talk until Ctrl-D or /quit."""
    reader = LineReader(engine.settings.home / "history")
    try:
        Chat(engine, Conversation(system, list(adapters)), sampling, reader).run()
    finally:
        reader.save()


class Chat:
    """One conversation with one model."""

    def __init__(
        self, engine: Engine, conversation: Conversation, sampling: SamplingParams, reader: LineReader
    ) -> None:
        self._engine, self._conversation, self._sampling = engine, conversation, sampling
        self._reader = reader
        self._commands = Commands(engine, conversation)
        reader.complete(self._commands.names())
        self._console = Console(highlight=False)

    def run(self) -> None:
        """Greet, then read and answer until the end."""
        model = self._engine.stored()
        length = self._engine.model.context_length
        self._dim(
            f"{model.name} ({model.quantisation}, {length:,} tokens). /help lists commands, Ctrl-D leaves."
        )
        while True:
            try:
                line = self._reader.read()
            except EOFError:
                self._console.print()
                return
            except KeyboardInterrupt:
                self._console.print()
                self._dim("Ctrl-D leaves.")
                continue
            if line.strip() and self._handle(line):
                return

    def _handle(self, line: str) -> bool:
        """Run a command or answer a message; returns whether to leave."""
        try:
            outcome = self._commands.run(line) if line.lstrip().startswith("/") else Outcome(ask=line)
            if outcome.say:
                self._dim(outcome.say)
            if outcome.ask is not None:
                self._answer(outcome.ask, outcome.new_seed)
            return outcome.leave
        except NomoatError as error:
            self._console.print(Text(f"error: {error.message}", style="red"))
            if error.hint:
                self._dim(f"hint:  {error.hint}")
        except KeyboardInterrupt:
            self._dim("stopped")
        return False

    def _answer(self, question: str, new_seed: bool) -> None:
        sampling = replace(self._sampling, seed=None) if new_seed else self._sampling
        self._conversation.add("user", question)
        text = ""
        try:
            with self._engine.chat(
                self._conversation.prompt(), sampling, self._conversation.adapters
            ) as answer:
                text = self._show(answer)
        except (NomoatError, KeyboardInterrupt):
            self._conversation.take_back()  # the question can be asked again, in other words
            raise
        self._conversation.add("assistant", text)
        if answer.result is not None:
            self._dim(figures(answer.result))

    def _show(self, answer: Generation) -> str:
        """Write the answer as it comes; after Ctrl-C, what has been written so far is the answer."""
        writer, shown = Writer(sys.stdout), []
        try:
            for chunk in answer:
                writer.write(chunk.text)
                shown.append(chunk.text)
        except KeyboardInterrupt:
            answer.cancel()
            with contextlib.suppress(NomoatError):
                shown.append(answer.text())
                writer.write(shown[-1])
        finally:
            writer.end_line()
        return "".join(shown)

    def _dim(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))
