"""What a prepared dataset holds and what was left out of it: for people, and for its manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nomoat.tune.rows import Row

__all__ = ["DatasetSummary", "PartCounts"]


@dataclass
class PartCounts:
    """Counts of one part, train or valid; a document is what the split keeps together."""

    texts: int = 0
    chats: int = 0
    characters: int = 0
    documents: int = 0

    def add(self, row: Row) -> None:
        """Count one row, apart from its document."""
        self.texts += row.kind == "text"
        self.chats += row.kind == "chat"
        self.characters += row.n_characters

    @property
    def rows(self) -> int:
        """Texts and chats together."""
        return self.texts + self.chats


@dataclass(frozen=True)
class DatasetSummary:
    """The facts about a dataset folder. `files` are the sources with their digests and sizes in bytes."""

    folder: Path
    train: PartCounts
    valid: PartCounts
    seed: int
    valid_share: float
    held_out_files: tuple[str, ...] = ()
    """Names of the owner's own held-out files; empty where the split was made by hash."""
    duplicates_removed: int = 0
    held_out_removed_from_train: int = 0
    documents_cut_into_sections: int = 0
    files: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the import skipped or guessed, one sentence each."""

    def details(self) -> dict[str, Any]:
        """The summary as the manifest's `details`."""
        content = asdict(self)
        del content["folder"]
        return {"licence": None, **content}

    def sentences(self) -> list[str]:
        """The summary for a terminal, one plain sentence each."""
        told = [f"{_part(self.train)} to learn from, {_part(self.valid)} held out"]
        if self.held_out_files:
            told.append(f"held out as the owner chose: {', '.join(self.held_out_files)}")
        if self.documents_cut_into_sections:
            told.append(
                f"few or lopsided documents: cut {self.documents_cut_into_sections} into sections, "
                "and held out some of the sections"
            )
        if self.duplicates_removed:
            told.append(f"removed {self.duplicates_removed:,} exact duplicates")
        if self.held_out_removed_from_train:
            told.append(f"removed {self.held_out_removed_from_train:,} training rows that are also held out")
        return [*told, *self.notes]


def _part(part: PartCounts) -> str:
    kinds = [f"{part.texts:,} texts"] if part.texts else []
    kinds += [f"{part.chats:,} chats"] if part.chats else []
    return f"{' and '.join(kinds)} ({part.characters:,} characters)"
