"""Progress draws a bar at a terminal and plain lines elsewhere; text is never read as markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nomoat.cli import progress as module
from nomoat.cli.progress import TerminalProgress


def _progress(terminal: bool) -> tuple[TerminalProgress, io.StringIO]:
    out = io.StringIO()
    return TerminalProgress(Console(file=out, force_terminal=terminal, width=100)), out


def test_without_a_terminal_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", -1.0)
    progress, out = _progress(terminal=False)
    progress.start("training", 1000, "tokens")
    progress.advance(250, "loss 1.5")
    progress.finish("done")
    first, second, last = out.getvalue().splitlines()
    assert first == "training ..."
    assert second.startswith("training: 250 of 1,000 tokens, 0:00 left")
    assert second.endswith("loss 1.5")
    assert last == "done"


def test_without_a_terminal_lines_are_rare() -> None:
    progress, out = _progress(terminal=False)
    progress.start("training", 1000)
    for _ in range(100):
        progress.advance(10)
    assert out.getvalue() == "training ...\n"


def test_at_a_terminal_a_bar_shows_amount_and_note() -> None:
    progress, out = _progress(terminal=True)
    progress.start("reading [draft]", 4, "files")
    progress.advance(1, "a[b].md")
    progress.finish("4 files")
    text = out.getvalue()
    assert "reading [draft]" in text
    assert "1 of 4 files" in text
    assert "a[b].md" in text
    assert text.endswith("4 files\n") or "4" in text.splitlines()[-1]


def test_a_total_may_be_unknown() -> None:
    progress, out = _progress(terminal=True)
    progress.start("scanning", unit="files")
    progress.advance(3)
    progress.finish()
    assert "3 files" in out.getvalue()
