"""The stage `prepare`: the owner's files in, a dataset folder out (train.jsonl, valid.jsonl, manifest.json).

The manifest is written last; its `details` are the summary that the design calls dataset.json. Rows stream
through files beside the result, so memory grows by some 100 bytes for each row, not with the text. Knows
nothing of tokens or models.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.files import disk_errors
from nomoat.base.manifests import MANIFEST_NAME, read_manifest, write_manifest
from nomoat.base.progress import Progress
from nomoat.tune.dataset_summary import DatasetSummary, PartCounts
from nomoat.tune.dedupe import Seen, content_key, normalised
from nomoat.tune.importers.document import Document, ImportTally
from nomoat.tune.importers.walk import import_path
from nomoat.tune.rows import Row, document_id, row_from_json, row_to_json
from nomoat.tune.split import HashSplit, group_key, section_characters, sections

__all__ = ["PARTS", "prepare", "read_rows", "row_from_document"]

PARTS = ("train", "valid")
KIND = "dataset"
_NAMES = {part: f"{part}.jsonl" for part in PARTS}
_HELD_OUT_NAMES = ("valid.jsonl", "validation.jsonl", "held_out.jsonl")
_HELD_OUT_SUFFIX = ".valid.jsonl"
_MORE_TEXT = "add text, or put questions to hold out into a file held_out.jsonl beside the rest"


def prepare(
    path: Path,
    out: Path,
    *,
    valid_share: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
    exclude: Collection[Path] = (),
    progress: Progress | None = None,
) -> DatasetSummary:
    """Read `path` and write the dataset folder `out`, whole or not at all; a former dataset is replaced.

    Exact duplicates go before the split. A file `held_out.jsonl`, `valid.jsonl`, `validation.jsonl` or
    `*.valid.jsonl` in a folder is the held-out set; without one, about `valid_share` of the documents is, by
    a hash of their names and `seed`: for prose a document is a file, or a section of it where files are few
    or lopsided; chats that ask the same are one document. Same input, same rows, same order.

    Raises InputError where there is nothing to learn from or nothing to hold out, NotFoundError, BadFileError
    (unless `skip_bad`) and DiskFullError.
    """
    if not 0 < valid_share < 1:
        raise InputError(f"the held-out share is {valid_share}, not between 0 and 1", "0.1 is a good one")
    _check_replaceable(out)
    tally, n_leaked, n_cut = ImportTally(skip_bad=skip_bad), 0, 0
    with _building(out) as folder:
        documents = import_path(path, progress, tally=tally, exclude=(out, *exclude))
        staged = _Staged(folder, documents, by_name=path.is_dir())
        if staged.valid.rows:
            counts, n_leaked = _take_owners_split(staged, folder)
        else:
            counts, n_cut = _split_by_hash(path, staged, folder, valid_share, seed)
        staged.remove()
        summary = DatasetSummary(
            out, counts["train"], counts["valid"], seed, valid_share, tuple(sorted(staged.held_out_files)),
            staged.duplicates, n_leaked, n_cut, _source_files(tally), tuple(tally.sentences()),
        )  # fmt: skip
        parents = {"source": sha256_bytes(json.dumps(summary.files, sort_keys=True).encode())}
        write_manifest(folder, KIND, list(_NAMES.values()), parents, summary.details())
    return summary


def read_rows(dataset_dir: Path, part: str) -> Iterator[Row]:
    """The rows of a finished dataset's part, `train` or `valid`, streaming.

    Raises NotFoundError where the folder is no finished dataset, BadFileError at a line that is no row.
    """
    read_manifest(dataset_dir, KIND)
    if part not in PARTS:
        raise InputError(f"a dataset has no part {part!r}", f"choose one of {', '.join(PARTS)}")
    path = dataset_dir / _NAMES[part]
    if not path.is_file():
        raise NotFoundError(f"{path}: is missing from the dataset", "prepare the dataset again")
    yield from _read(path)


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield row_from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                hint = "prepare the dataset again"
                raise BadFileError(
                    path, f"line {number}", f"not a row of a dataset ({error})", hint
                ) from error


class _Staged:
    """All rows of the source without duplicates, in two files: the owner's held-out rows and the others."""

    def __init__(self, folder: Path, documents: Iterator[Document], by_name: bool) -> None:
        self.train, self.valid = PartCounts(), PartCounts()
        self.duplicates, self.held_out_files = 0, set[str]()
        self.held_out_keys, seen = Seen(), Seen()
        self.train_path, self._valid_path = folder / "train.staged", folder / "valid.staged"
        with _writer(self.train_path) as to_train, _writer(self._valid_path) as to_valid:
            for document in documents:
                row = row_from_document(document)
                held_out = by_name and _is_held_out(document.source)
                if not (self.held_out_keys if held_out else seen).is_new(content_key(row)):
                    self.duplicates += 1
                elif held_out:
                    self.held_out_files.add(row.source)
                    self.valid.add(row)
                    _write(to_valid, row)
                else:
                    self.train.add(row)
                    _write(to_train, row)

    def train_rows(self) -> Iterator[Row]:
        """Rows of files that the owner did not hold out."""
        return _read(self.train_path)

    def valid_rows(self) -> Iterator[Row]:
        """Rows of the owner's held-out files."""
        return _read(self._valid_path)

    def remove(self) -> None:
        """Delete the two files."""
        self.train_path.unlink()
        self._valid_path.unlink()


def row_from_document(document: Document) -> Row:
    """The document with its identity and the group that the split keeps together."""
    if document.messages is None:
        content, group = document.text or "", f"{document.source}:{document.line or ''}"
    else:
        content = "\0".join(f"{message.role}\1{message.content}" for message in document.messages)
        # Chats that ask the same are one document: what one answers would leak into the other.
        group = "asks:" + normalised(" ".join(m.content for m in document.messages if m.role == "user"))
    place = str(document.line or "")
    return Row(
        document.source, document_id(document.source, place, content), _short(group),
        document.text, document.messages, document.value, document.topic, document.line,
    )  # fmt: skip


def _short(group: str) -> str:
    return document_id("", "", group)


def _is_held_out(source: str) -> bool:
    name = source.rsplit("/", 1)[-1].lower()
    return name in _HELD_OUT_NAMES or name.endswith(_HELD_OUT_SUFFIX)


def _take_owners_split(staged: _Staged, folder: Path) -> tuple[dict[str, PartCounts], int]:
    leaked = 0

    def rows() -> Iterator[tuple[str, Row]]:
        nonlocal leaked
        for row in staged.train_rows():
            if content_key(row) in staged.held_out_keys:
                leaked += 1
            else:
                yield "train", row
        for row in staged.valid_rows():
            yield "valid", row

    counts = _write_parts(folder, rows())
    if not counts["train"].rows:
        names = ", ".join(sorted(staged.held_out_files))
        raise InputError(f"every row is held out ({names}), so nothing is left to learn from",
                         "add files to learn from beside them, or rename them")  # fmt: skip
    return counts, leaked


def _split_by_hash(
    path: Path, staged: _Staged, folder: Path, valid_share: float, seed: int
) -> tuple[dict[str, PartCounts], int]:
    cutter = _Cutter(staged.train, valid_share)
    keys = {group_key(row.group, seed) for row in cutter.rows(staged.train_rows())}
    if len(keys) < 2:
        raise InputError(f"{path}: {_only_one(staged)}, so nothing can be held out to prove what was learned",
                         _MORE_TEXT)  # fmt: skip
    split = HashSplit(keys, valid_share)
    n_cut = sum(map(cutter.is_long, staged.train_rows()))
    rows = cutter.rows(staged.train_rows())
    sides = (("valid" if split.is_valid(group_key(row.group, seed)) else "train", row) for row in rows)
    return _write_parts(folder, sides), n_cut


def _only_one(staged: _Staged) -> str:
    if staged.train.rows == 1:
        return "there is only one chat" if staged.train.chats else "there is only one sentence or line"
    return f"all {staged.train.rows} chats ask the same"


class _Cutter:
    """Cuts prose that is long against the whole set into sections, which count as documents from then on."""

    def __init__(self, counts: PartCounts, valid_share: float) -> None:
        self._longest = int(valid_share * counts.characters)
        self._is_only = counts.rows == 1
        self._target = section_characters(counts.characters, counts.rows, valid_share)

    def is_long(self, row: Row) -> bool:
        """Whether holding out this row whole would take more than the share that is wanted."""
        worth_it = self._is_only or row.n_characters >= 2 * self._target
        return row.kind == "text" and row.n_characters > self._longest and worth_it

    def rows(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The same rows with sections, without equal ones, in the place of each long text."""
        for row in rows:
            if self.is_long(row):
                yield from self._sections(row)
            else:
                yield row

    def _sections(self, row: Row) -> Iterator[Row]:
        seen = Seen()
        for number, text in enumerate(sections(row.text or "", self._target), 1):
            name = f"{row.group} section {number}"
            part = Row(row.source, document_id(row.source, name, text), _short(name), text=text)
            if seen.is_new(content_key(part)):
                yield part


def _write_parts(folder: Path, rows: Iterator[tuple[str, Row]]) -> dict[str, PartCounts]:
    counts = {part: PartCounts() for part in PARTS}
    groups = {part: Seen() for part in PARTS}
    with contextlib.ExitStack() as stack:
        files = {part: stack.enter_context(_writer(folder / name)) for part, name in _NAMES.items()}
        for part, row in rows:
            counts[part].add(row)
            counts[part].documents += groups[part].is_new(group_key(row.group, 0))
            _write(files[part], row)
    return counts


def _writer(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")


def _write(file: TextIO, row: Row) -> None:
    file.write(json.dumps(row_to_json(row), ensure_ascii=False) + "\n")


def _source_files(tally: ImportTally) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"name": name, "sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path, name in tally.files
    )


def _check_replaceable(out: Path) -> None:
    """Refuse to write over a folder that holds anything but a dataset."""
    if not out.exists():
        return
    foreign = [out.name] if not out.is_dir() else sorted(
        entry.name for entry in out.iterdir() if entry.name not in {*_NAMES.values(), MANIFEST_NAME}
    )  # fmt: skip
    if foreign:
        raise InputError(f"{out}: is no dataset folder (it holds {foreign[0]})", "choose another folder")


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that takes its place when the work is done, and vanishes if it fails."""
    token = secrets.token_hex(4)
    folder, former = out.with_name(f".{out.name}.{token}.part"), out.with_name(f".{out.name}.{token}.old")
    with disk_errors(out):
        folder.mkdir(parents=True)
        try:
            yield folder
            if out.exists():
                out.rename(former)
            folder.rename(out)
        except BaseException:  # Ctrl-C as well: the former dataset goes back to its place
            shutil.rmtree(folder, ignore_errors=True)
            if former.exists() and not out.exists():
                former.rename(out)
            raise
        shutil.rmtree(former, ignore_errors=True)
