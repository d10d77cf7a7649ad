"""All files of a repository into a folder, for what is neither a model nor an adapter: data sets, pipelines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nomoat.base.errors import InputError
from nomoat.base.files import atomic_path
from nomoat.base.progress import Progress, Silent
from nomoat.share.client.download import Download, Transfer, fetched
from nomoat.share.client.pull import Puller
from nomoat.share.client.ranges import RangeSource
from nomoat.share.client.references import Reference
from nomoat.share.client.remote import RemoteFile, RemoteRepo, Snapshot

__all__ = ["fetch_folder"]

_AT_ONCE = 64  # files in one go: each holds two handles open


def fetch_folder(
    puller: Puller, reference: Reference, folder: Path, transfer: Transfer, progress: Progress | None = None
) -> Snapshot:
    """Fetch every file of a repository into `folder`; those that are there already stay, if they are the same.

    Raises `InputError` where a file of that name is another one; else as `Puller.pull`.
    """
    remote = RemoteRepo(puller.connection(reference.hub), reference.repo)
    snapshot = remote.snapshot(reference.revision)
    missing = [file for file in snapshot.files if not _is_there(folder, file)]
    for start in range(0, len(missing), _AT_ONCE):
        part = missing[start : start + _AT_ONCE]
        wanted = [_download(remote, snapshot, file, puller.downloads) for file in part]
        with fetched(wanted, transfer, progress or Silent(), f"Pulling {reference.repo}"):
            for item in wanted:
                _place(item.path, folder / item.file.path)
    return snapshot


def _download(remote: RemoteRepo, snapshot: Snapshot, file: RemoteFile, downloads: Path) -> Download:
    source = RangeSource(remote.connection, remote.file_url(snapshot.commit, file.path), file)
    return Download(file, source, downloads / file.key)


def _is_there(folder: Path, file: RemoteFile) -> bool:
    path = folder / file.path
    if not path.exists():
        return False
    if path.is_file() and path.stat().st_size == file.size_bytes and file.is_content_of(path):
        return True
    raise InputError(f"{path}: is another file than the hub's", "name an empty folder, or move it away")


def _place(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
