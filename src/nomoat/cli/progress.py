"""Progress for a person: a live bar with ETA at a terminal, a line now and then where there is none."""

from __future__ import annotations

import atexit
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["TerminalProgress"]

_SECONDS_BETWEEN_LINES = 15.0


class TerminalProgress:
    """A `nomoat.base.progress.Progress` that draws on standard error, never on standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label, self._unit = "", ""
        self._total: float | None = None
        self._done, self._begun, self._last_line = 0.0, 0.0, 0.0
        # A bar hides the cursor: bring it back even after Ctrl-C in the middle of the work.
        atexit.register(self.finish)

    def start(self, label: str, total: float | None = None, unit: str = "") -> None:
        """Show a bar; without a terminal, a line at the start and one every 15 s."""
        self.finish()
        self._label, self._total, self._unit, self._done = label, total, unit, 0.0
        self._begun = self._last_line = time.monotonic()
        if not self._console.is_terminal:
            self.say(f"{label} ...")
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=28),
            TextColumn("{task.fields[amount]}", markup=False), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._console, transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, note="", amount=self._amount())

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move the bar; `note` replaces the live text unless empty."""
        self._done += amount
        if self._bar is not None:
            fields = {"amount": self._amount(), **({"note": note} if note else {})}
            self._bar.update(self._task, advance=amount, **fields)  # type: ignore[arg-type]
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say(f"{self._label}: {self._amount()}{self._left()}  {note}".rstrip())

    def finish(self, note: str = "") -> None:
        """Take the bar away and leave its note, if any."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if note:
            self.say(note)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _amount(self) -> str:
        total = f" of {self._total:,.0f}" if self._total else ""
        return f"{self._done:,.0f}{total} {self._unit}".rstrip()

    def _left(self) -> str:
        """Remaining time from the mean speed so far, such as `, 3:05 left`."""
        if not self._total or self._done <= 0:
            return ""
        elapsed = time.monotonic() - self._begun
        seconds = max(0, round(elapsed / self._done * (self._total - self._done)))
        return f", {seconds // 60}:{seconds % 60:02d} left"
