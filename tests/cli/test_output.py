"""One JSON value per line, valid for every reader."""

from __future__ import annotations

import json

import pytest

from nomoat.cli.output import print_json


def test_numbers_that_json_does_not_know_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "interval": (float("-inf"), 1.0)})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "interval": [None, 1.0]}


def test_text_keeps_its_letters_and_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "Zürich\n→ 北京"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "Zürich" in out
    assert "北京" in out
