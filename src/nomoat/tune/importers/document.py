"""What every importer yields, and the tally of what it met on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nomoat.base.errors import BadFileError
from nomoat.tune.rows import Message

__all__ = ["BAD_HINT", "Document", "ImportTally", "describe_suffixes"]

BAD_HINT = "repair or remove it, or run again with --skip-bad to go on without it"
_BAD_LISTED = 20


@dataclass(frozen=True, slots=True)
class Document:
    """One note, or one line of a JSONL file.

    `source` is the file's path relative to the imported folder, with `/` between its parts; `line` counts
    from 1 and is None where the document is the whole file. `kind` says which of `text`, `messages` is set.
    """

    source: str
    kind: str
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    line: int | None = None
    value: str | None = None
    topic: str | None = None


@dataclass
class ImportTally:
    """Counts of what an import met; filled while it runs, complete when its iterator ends.

    Nothing is passed over silently: whatever does not become a document is counted here.
    """

    skip_bad: bool = False
    """Pass over what is damaged and list it, instead of stopping at it."""
    files: list[tuple[Path, str]] = field(default_factory=list)
    """Every file that was read to its end and was not empty, with its relative name."""
    documents: Counter[str] = field(default_factory=Counter)
    """Documents by format: markdown, plain, jsonl."""
    empty_files: list[str] = field(default_factory=list)
    empty_records: int = 0
    """Chats in which a reply or a question is empty, and empty texts, in JSONL files."""
    legacy_encoded: list[str] = field(default_factory=list)
    """.txt files that are not UTF-8 and were read as Windows-1252, the superset of printable Latin-1."""
    other_suffixes: Counter[str] = field(default_factory=Counter)
    """Files of formats that no importer reads, by suffix."""
    unknown_json: list[str] = field(default_factory=list)
    """.json files in a folder that hold something else than training data (settings and the like)."""
    linked_folders: list[str] = field(default_factory=list)
    """Symbolic links to folders, which are not followed."""
    bad: list[str] = field(default_factory=list)
    """Messages of the first errors that `skip_bad` passed over; `n_bad` counts them all."""
    n_bad: int = 0

    def reject(self, error: BadFileError) -> None:
        """Raise `error`, or write it down and go on: training without a file must be the owner's choice."""
        if not self.skip_bad:
            raise error
        self.n_bad += 1
        if len(self.bad) < _BAD_LISTED:
            self.bad.append(error.message)

    @property
    def n_documents(self) -> int:
        """Documents of all formats."""
        return self.documents.total()

    def sentences(self) -> list[str]:
        """What a person should know about this import, one plain sentence each."""
        told = []
        if self.empty_files:
            told.append(f"skipped {len(self.empty_files)} empty files ({_some(self.empty_files)})")
        if self.empty_records:
            told.append(f"skipped {self.empty_records} records with an empty question, reply or text")
        if self.legacy_encoded:
            told.append(f"read as Windows-1252, not UTF-8: {_some(self.legacy_encoded)}")
        if self.other_suffixes:
            told.append(f"not read, other formats: {describe_suffixes(self.other_suffixes)}")
        if self.unknown_json:
            told.append(f"not read, no training data in: {_some(self.unknown_json)}")
        if self.linked_folders:
            told.append(f"linked folders are not followed: {_some(self.linked_folders)}")
        told.extend(f"skipped bad: {message}" for message in self.bad)
        if self.n_bad > len(self.bad):
            told.append(f"skipped bad: {self.n_bad - len(self.bad)} more")
        return told


def describe_suffixes(suffixes: Counter[str]) -> str:
    """`12 .png, 3 .pdf, 1 without suffix`, most frequent first."""
    ordered = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{count} {suffix or 'without suffix'}" for suffix, count in ordered[:8]]
    return ", ".join(told) + (f" and {len(ordered) - 8} more" if len(ordered) > 8 else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
