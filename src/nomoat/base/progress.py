"""How long work tells of itself, without knowing who listens (terminal, JSON, page, nobody)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """A listener for one task at a time; the terminal's one lives in `nomoat.cli.progress`."""

    def start(self, label: str, total: float | None = None, unit: str = "") -> None:
        """A new task begins; `total` is in `unit`s, None where unknown."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """`amount` units more are done; `note` is a short live text such as `loss 1.23  210 tok/s`."""

    def finish(self, note: str = "") -> None:
        """The task is done."""

    def say(self, text: str) -> None:
        """A line worth keeping."""


class Silent:
    """Listens to nothing."""

    def start(self, label: str, total: float | None = None, unit: str = "") -> None:
        """Ignore."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Ignore."""

    def finish(self, note: str = "") -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""
