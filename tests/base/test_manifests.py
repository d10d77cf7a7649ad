"""A folder is finished when its manifest says so, and only then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.manifests import MANIFEST_NAME, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished folder with one file."""
    (tmp_path / "a.txt").write_text("text")
    write_manifest(tmp_path, "dataset", ["a.txt"], {"base": "sha256:00"}, {"rows": 1})
    return tmp_path


def test_a_manifest_reads_back_as_written(folder: Path) -> None:
    manifest = read_manifest(folder, "dataset", verify=True)
    assert manifest.files == {"a.txt": {"sha256": sha256_bytes(b"text"), "bytes": 4}}
    assert manifest.parents == {"base": "sha256:00"}
    assert manifest.details == {"rows": 1}
    assert manifest.created.endswith("+00:00")


def test_a_folder_without_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished dataset"):
        read_manifest(tmp_path, "dataset")


def test_a_changed_file_is_noticed(folder: Path) -> None:
    (folder / "a.txt").write_text("other")
    read_manifest(folder, "dataset")
    with pytest.raises(BadFileError, match="differs from its manifest"):
        read_manifest(folder, "dataset", verify=True)


def test_a_missing_file_is_noticed(folder: Path) -> None:
    (folder / "a.txt").unlink()
    with pytest.raises(BadFileError, match="is missing"):
        read_manifest(folder, "dataset", verify=True)


def test_another_kind_of_folder_is_refused(folder: Path) -> None:
    with pytest.raises(BadFileError, match="is a 'dataset', not a 'adapter'"):
        read_manifest(folder, "adapter")


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"kind": "dataset", "colour": "red"})])
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(BadFileError, match=r"manifest\.json"):
        read_manifest(tmp_path, "dataset")


def test_digests_of_files_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert sha256_file(tmp_path / "a") == sha256_bytes(b"x" * 100_000)
    assert sha256_bytes(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
