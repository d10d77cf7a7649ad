"""Parts of an upload: each is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nomoat.base.errors import InputError
from nomoat.share.blobs.parts import PartFiles
from nomoat.share.errors import RefusedError


def test_parts_are_read_in_order_and_dropped(tmp_path: Path) -> None:
    parts = PartFiles(tmp_path)
    for number, content in ((2, b"two"), (1, b"old"), (1, b"one")):
        with parts.writing("1-abc", number) as handle:
            handle.write(content)
    assert b"".join(parts.read("1-abc", 2)) == b"onetwo"
    with pytest.raises(RefusedError, match="part 3 of 3"):
        list(parts.read("1-abc", 3))
    parts.drop("1-abc")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_part_leaves_nothing(tmp_path: Path) -> None:
    parts = PartFiles(tmp_path)
    with pytest.raises(ConnectionError), parts.writing("1-abc", 1) as handle:
        handle.write(b"half")
        raise ConnectionError
    assert not list((tmp_path / "1-abc").iterdir())


def test_old_uploads_are_swept_away(tmp_path: Path) -> None:
    parts = PartFiles(tmp_path)
    for name in ("1-old", "1-new"):
        with parts.writing(name, 1) as handle:
            handle.write(b"x")
    os.utime(tmp_path / "1-old", (0, 0))
    assert parts.sweep() == 1 and [path.name for path in tmp_path.iterdir()] == ["1-new"]


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 200])
def test_only_names_of_the_hub_become_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError), PartFiles(tmp_path).writing(name, 1):
        pass
