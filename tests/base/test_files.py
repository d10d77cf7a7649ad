"""A reader of an atomic file sees the old content or the new, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from nomoat.base.errors import DiskFullError, InputError, NomoatError
from nomoat.base.files import atomic_path, atomic_write, atomic_write_json, disk_errors, private_folder


def test_a_new_file_appears_with_its_content_and_its_folders(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b.txt", "grüße")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "grüße"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupted_write_leaves_the_old_content_and_no_rest(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(interruption), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise interruption
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_shows_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename is only atomic within one file system"
    assert path.read_text() == "new"


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a.json", {"name": "Zoë"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Zoë"}
    assert "Zoë" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_file_and_remedy(tmp_path: Path, number: int) -> None:
    path = tmp_path / "adapter.gguf"
    with pytest.raises(DiskFullError) as caught, disk_errors(path):
        raise OSError(number, os.strerror(number))
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NomoatError, match="may not be written"):
        atomic_write(tmp_path / "a.txt", "x")


def test_a_really_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DiskFullError), atomic_path(path), full.open("wb", buffering=0) as handle:
        handle.write(b"x")
    assert path.read_text() == "old"


def test_a_private_folder_is_closed_to_other_accounts(tmp_path: Path) -> None:
    new, old, everybodys = (tmp_path / name for name in ("above/new", "old", "everybodys"))
    old.mkdir()
    old.chmod(0o755)
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    for folder in (new, old):
        private_folder(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(InputError, match="everybody"):
        private_folder(everybodys)
    assert everybodys.stat().st_mode & 0o7777 == 0o1777
