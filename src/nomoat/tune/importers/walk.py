"""From a path to documents: walks a folder in a fixed order and calls the importer of each file."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.manifests import MANIFEST_NAME
from nomoat.base.progress import Progress, Silent
from nomoat.tune.importers import jsonl, plain
from nomoat.tune.importers.detect import READABLE, Importer, importer_for
from nomoat.tune.importers.document import Document, ImportTally

__all__ = ["import_path", "source_files"]

_SKIPPED_FOLDERS = {"node_modules", "__pycache__"}


def import_path(
    path: Path,
    progress: Progress | None = None,
    *,
    tally: ImportTally | None = None,
    exclude: Collection[Path] = (),
) -> Iterator[Document]:
    """The documents of a file or of a folder, in the order of their relative paths, streaming.

    Hidden files and folders, `node_modules`, finished artefacts of nomoat (folders with its manifest) and the
    folders `exclude` are left out; links to folders are not followed. `tally` is filled on the way; its
    `skip_bad` decides whether a damaged file or record stops the import. Raises NotFoundError, BadFileError
    (file, place, remedy), and InputError where nothing at all can be learned from.
    """
    tally = tally if tally is not None else ImportTally()
    progress = progress or Silent()
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder", "name a file or a folder with your text")
    progress.start("reading", unit="files")
    if path.is_dir():
        for file, source in source_files(path, tally, exclude):
            yield from _folder_file(file, source, tally)
            progress.advance(1, source)
    else:
        yield from _single_file(path, tally)
    progress.finish()
    if not tally.n_documents:
        raise _nothing_found(path, tally)


def source_files(
    root: Path, tally: ImportTally, exclude: Collection[Path] = ()
) -> Iterator[tuple[Path, str]]:
    """Files under `root` that an importer may read, with their relative names; the others are counted."""
    excluded = {folder.resolve() for folder in exclude}
    yield from _walk(root, "", tally, excluded)


def _walk(folder: Path, prefix: str, tally: ImportTally, excluded: set[Path]) -> Iterator[tuple[Path, str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problem = f"folder cannot be read ({error.strerror or error})"
        tally.reject(BadFileError(folder, "", problem, "make it readable, or run again with --skip-bad"))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED_FOLDERS:
            continue
        path, source = folder / entry.name, prefix + os.fsencode(entry.name).decode(errors="backslashreplace")
        if entry.is_dir(follow_symlinks=False):
            if path.resolve() not in excluded and not _is_artefact(path):
                yield from _walk(path, f"{source}/", tally, excluded)
        elif path.is_dir():
            tally.linked_folders.append(source)
        elif path.is_file():  # not a pipe or a device, which may never end
            if importer_for(path):
                yield path, source
            else:
                tally.other_suffixes[path.suffix.lower()] += 1


def _is_artefact(folder: Path) -> bool:
    """Whether nomoat made this folder: an adapter's card or a dataset beside the notes is no note."""
    try:
        content = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"kind", "schema", "files", "parents"} <= content.keys()


def _folder_file(path: Path, source: str, tally: ImportTally) -> Iterator[Document]:
    importer = importer_for(path)
    if importer is None:
        return
    try:
        if path.suffix.lower() in jsonl.LIST_SUFFIXES and not jsonl.holds_training_data(path):
            tally.unknown_json.append(source)
            return
        yield from _read(importer, path, source, tally)
    except BadFileError as error:
        tally.reject(error)


def _single_file(path: Path, tally: ImportTally) -> Iterator[Document]:
    """A file named by the owner: of any suffix as long as it is text, and never skipped as a whole."""
    importer = importer_for(path) or plain.documents
    try:
        yield from _read(importer, path, path.name, tally)
    except BadFileError as error:
        if importer_for(path) is None:
            error.hint = f"files that can be read: {', '.join(READABLE)}"
        raise


def _read(importer: Importer, path: Path, source: str, tally: ImportTally) -> Iterator[Document]:
    before = tally.n_documents + tally.empty_records + tally.n_bad
    yield from importer(path, source, tally)
    if tally.n_documents + tally.empty_records + tally.n_bad == before:
        tally.empty_files.append(source)
    else:
        tally.files.append((path, source))


def _nothing_found(path: Path, tally: ImportTally) -> InputError:
    looked = f"looked for {', '.join(READABLE)}"
    found = "; ".join(tally.sentences()) or "found no file at all"
    problem = f"{path}: no text to learn from; {looked}; {found}"
    return InputError(problem, "name a folder that holds notes (Markdown, text) or chats (JSONL)")
