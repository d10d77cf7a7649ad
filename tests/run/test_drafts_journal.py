"""The history on disk: private, capped, and never trusted when damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from nomoat.base.files import lock_folder
from nomoat.run.drafts.history import History
from nomoat.run.drafts.journal import Journal, vocabulary_key


def _history(folder: Path, most_bytes: int = 3_000_000) -> History:
    return History(Journal(folder / "history", "abc", most_bytes), most_tokens=most_bytes // 4)


def _file(folder: Path) -> Path:
    return folder / "history" / "abc.tokens"


def test_the_next_process_knows_what_was_said(tmp_path: Path) -> None:
    first = _history(tmp_path)
    first.remember([1, 2, 3, 4, 5, 6])
    first.remember([11, 12, 13, 14, 15])
    second = _history(tmp_path)
    assert second.find([0, 1, 2, 3, 4], 8) == ([5, 6], 4)
    assert second.find([11, 12, 13, 14], 8) == ([15], 4)
    assert len(second) == len(first)


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    history = _history(tmp_path)
    _history(tmp_path).remember([1, 2, 3, 4, 5])
    assert history.find([1, 2, 3, 4], 1) == ([5], 4)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    _history(tmp_path).remember([1, 2, 3, 4, 5])
    assert stat.S_IMODE(_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(_file(tmp_path).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage", "empty"])
def test_a_damaged_end_is_dropped_and_writing_goes_on(tmp_path: Path, damage: str) -> None:
    first = _history(tmp_path)
    first.remember([1, 2, 3, 4, 5, 6])
    whole = _file(tmp_path).stat().st_size
    first.remember([11, 12, 13, 14, 15])
    content = bytearray(_file(tmp_path).read_bytes())
    if damage == "cut":
        del content[whole + 20 :]
    elif damage == "flip":
        content[whole + 13] ^= 0x40
    elif damage == "garbage":
        content[whole:] = os.urandom(100)
    else:
        content.clear()
    _file(tmp_path).write_bytes(content)
    second = _history(tmp_path)
    assert second.find([1, 2, 3, 4], 2)[0] == ([] if damage == "empty" else [5, 6])
    assert second.find([11, 12, 13, 14], 2) == ([], 0)
    second.remember([21, 22, 23, 24, 25])
    assert _history(tmp_path).find([21, 22, 23, 24], 2) == ([25], 4)


def test_a_full_journal_keeps_the_newer_half_privately(tmp_path: Path) -> None:
    history = _history(tmp_path, most_bytes=4000)
    for start in range(0, 10_000, 50):
        history.remember(list(range(start, start + 50)))
    assert _file(tmp_path).stat().st_size <= 4000
    assert stat.S_IMODE(_file(tmp_path).stat().st_mode) == 0o600
    assert _history(tmp_path, most_bytes=4000).find(list(range(9960, 9970)), 1) == ([9970], 10)


def test_writing_waits_while_another_process_writes(tmp_path: Path) -> None:
    history = _history(tmp_path)
    history.remember([1, 2, 3, 4, 5])
    size = _file(tmp_path).stat().st_size
    with lock_folder(_file(tmp_path).parent):
        history.remember([11, 12, 13, 14, 15])
        assert _file(tmp_path).stat().st_size == size
    history.remember([21, 22, 23, 24, 25])
    assert _history(tmp_path).find([11, 12, 13, 14], 1) == ([15], 4)


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(b"a file where the folder should be")
    history = _history(tmp_path)
    history.remember([1, 2, 3, 4, 5])
    assert history.find([1, 2, 3, 4], 1) == ([5], 4)


def test_what_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(b"")
    journal = Journal(tmp_path / "history", "abc")
    for _ in range(30):
        journal.append(np.arange(10_000, dtype=np.int32))
    assert sum(len(part) for part in journal._waiting) <= 100_000


def test_models_with_the_same_vocabulary_share_a_history() -> None:
    def other(token_id: int) -> bytes:
        return b"x" if token_id == 512 else str(token_id).encode()

    key = vocabulary_key(1024, lambda token_id: str(token_id).encode())
    assert key == vocabulary_key(1024, lambda token_id: str(token_id).encode())
    assert len({key, vocabulary_key(1024, other), vocabulary_key(1025, lambda t: str(t).encode())}) == 3
