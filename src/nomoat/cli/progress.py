"""Progress for a person at a terminal: one live bar with ETA, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["TerminalProgress"]

_SECONDS_BETWEEN_LINES = 15.0


class TerminalProgress:
    """A `nomoat.base.progress.Progress` that draws on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._label, self._total, self._done, self._last_line = "", None, 0.0, 0.0

    def start(self, label: str, total: float | None = None, unit: str = "") -> None:
        """Show a bar; without a terminal, a line at the start and one every 15 s."""
        self.finish()
        self._label, self._total, self._done, self._last_line = label, total, 0.0, time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"{label} ...", markup=False)
            return
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(),
            TextColumn(unit), TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, note="")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move the bar; `note` replaces the live text unless empty."""
        self._done += amount
        if self._bar is not None and self._task is not None:
            fields = {"note": note} if note else {}
            self._bar.update(self._task, advance=amount, **fields)  # type: ignore[arg-type]
        elif not self._console.is_terminal and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            share = f"{100 * self._done / self._total:3.0f} %" if self._total else f"{self._done:.0f}"
            self._console.print(f"{self._label}: {share}  {note}", markup=False)

    def finish(self, note: str = "") -> None:
        """Take the bar away and leave its note, if any."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
        if note:
            self.say(note)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)
