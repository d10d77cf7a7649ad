"""What `nomoat search` shows of a repository."""

from __future__ import annotations

import pytest

from nomoat.cli.search import _show
from nomoat.share.client.search import Found


def _found(name: str, kind: str = "model", *tags: str, private: bool = False) -> Found:
    return Found(name, "dataset" if kind == "dataset" else "model", 1, 0, "2026-01-02", tags, "", private)


def test_the_kind_is_shown_and_what_is_private_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    _show(
        "hub.local", [_found("a/b", private=True), _found("a/c", "model", "peft"), _found("a/d", "dataset")]
    )
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[:2] == ["name", "kind"]
    assert [" ".join(row.split()[1:3]) for row in rows] == [
        "model, private",
        "adapter 2026-01-02",
        "data set",
    ]
    assert rows[0].split()[0] == "hub.local/a/b"
