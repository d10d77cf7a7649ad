"""The environment decides where things lie and how many threads work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nomoat.base import settings
from nomoat.base.errors import InputError
from nomoat.base.settings import Settings, child_environment


def test_the_store_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_HOME", "~/models")
    assert Settings.from_environment().home == Path.home() / "models"
    monkeypatch.delenv("NOMOAT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Settings.from_environment().home == Path("/data/nomoat")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Settings.from_environment().home == Path.home() / ".local" / "share" / "nomoat"


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_threads_are_a_positive_number_or_left_to_measurement(
    monkeypatch: pytest.MonkeyPatch, text: str, threads: int | None
) -> None:
    monkeypatch.setenv("NOMOAT_THREADS", text)
    assert Settings.from_environment().threads == threads


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("", None),
        ("auto", None),
        ("off", 0),
        ("0", 0),
        ("500MB", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("2g", 2_000_000_000),
    ],
)
def test_the_kv_cache_on_disk_is_off_of_a_size_or_left_to_the_disk(
    monkeypatch: pytest.MonkeyPatch, text: str, n_bytes: int | None
) -> None:
    monkeypatch.setenv("NOMOAT_KV_CACHE", text)
    assert Settings.from_environment().kv_cache_bytes == n_bytes


def test_a_kv_cache_that_is_no_size_is_refused_rather_than_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KV_CACHE", "offf")
    with pytest.raises(InputError, match="NOMOAT_KV_CACHE=offf"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("value", "kept"), [(None, True), ("on", True), ("off", False), ("OFF", False), ("0", False)]
)
def test_the_history_of_conversations_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, value: str | None, kept: bool
) -> None:
    if value is None:
        monkeypatch.delenv("NOMOAT_HISTORY", raising=False)
    else:
        monkeypatch.setenv("NOMOAT_HISTORY", value)
    assert Settings.from_environment().history is kept


def test_a_child_gets_this_environment_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_HOME", "/a")
    environment = child_environment(OMP_WAIT_POLICY="passive", NOMOAT_HOME="/b")
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["NOMOAT_HOME"] == "/b"
    assert environment["PATH"]


def test_every_variable_that_is_read_is_listed() -> None:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"NOMOAT_[A-Z_]+", source)) == set(settings.SETTINGS_VARIABLES)
