"""What changed between two versions: files, texts line by line, tensors and metadata by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nomoat.base.errors import NomoatError
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.opened import read_text
from nomoat.server.hub.pages.tensors import Weights, is_weights, read_weights
from nomoat.share.registry.trees import Entry

__all__ = ["Change", "Line", "changes_between", "text_difference"]

_MOST_TEXT_BYTES, _MOST_LINES = 200_000, 4_000  # comparing takes time by the square of them
_MOST_SHOWN_LINES, _MOST_READ_FILES, _MOST_ROWS = 400, 30, 200


@dataclass(frozen=True)
class Line:
    """A line of a text difference; `kind`: added, removed, same, place."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """A file that differs. `rows` are of what is in a weights file: (what, before, after)."""

    path: str
    kind: str
    before: Entry | None
    after: Entry | None
    lines: Sequence[Line] = ()
    rows: Sequence[tuple[str, str, str]] = field(default=())
    note: str = ""


def changes_between(hub: Hub, before: Sequence[Entry], after: Sequence[Entry]) -> list[Change]:
    """Every file that was added, removed or changed, by path."""
    old = {entry.path: entry for entry in before if entry.is_file}
    new = {entry.path: entry for entry in after if entry.is_file}
    paths = sorted(
        path
        for path in old | new
        if old.get(path) != new.get(path) and _digest(old, path) != _digest(new, path)
    )
    return [
        _change(hub, path, old.get(path), new.get(path), read=index < _MOST_READ_FILES)
        for index, path in enumerate(paths)
    ]


def text_difference(before: str, after: str) -> list[Line]:
    """What differs, with three lines around it."""
    found: list[Line] = []
    compared = difflib.unified_diff(before.splitlines(), after.splitlines(), n=3, lineterm="")
    for number, line in enumerate(compared):
        if number < 2:  # names of files
            continue
        if len(found) >= _MOST_SHOWN_LINES:
            found.append(Line("place", "… more lines differ; download both to compare them whole"))
            break
        kind = {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")
        found.append(Line(kind, line))
    return found


def _change(hub: Hub, path: str, old: Entry | None, new: Entry | None, *, read: bool) -> Change:
    kind = "added" if old is None else "removed" if new is None else "changed"
    if not read or old is None or new is None:
        return Change(path, kind, old, new)
    if is_weights(path):
        return _weights_change(hub, path, old, new)
    texts = [read_text(hub, entry, _MOST_TEXT_BYTES) for entry in (old, new)]
    first, second = texts
    if first is None or second is None:
        return Change(path, kind, old, new, note="not a text, or too long to compare here")
    if max(first.count("\n"), second.count("\n")) > _MOST_LINES:
        return Change(path, kind, old, new, note="too many lines to compare here")
    return Change(path, kind, old, new, text_difference(first, second))


def _weights_change(hub: Hub, path: str, old: Entry, new: Entry) -> Change:
    try:
        first, second = read_weights(hub, old), read_weights(hub, new)
    except NomoatError as error:
        return Change(path, "changed", old, new, note=error.message)
    rows = _rows("metadata", first.metadata, second.metadata)
    rows += _rows("tensor", _described(first), _described(second))
    lines = text_difference(first.chat_template, second.chat_template)
    note = "" if rows or lines else "same tensors and metadata: only the numbers in them differ"
    return Change(path, "changed", old, new, lines, rows[:_MOST_ROWS], note)


def _described(weights: Weights) -> dict[str, str]:
    return {each.name: f"{each.kind} {list(each.shape)}" for each in weights.tensors}


def _rows(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str, str]]:
    differing = (name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
    return [(f"{what} {name}", old.get(name, ""), new.get(name, "")) for name in differing]


def _digest(entries: Mapping[str, Entry], path: str) -> str | None:
    entry = entries.get(path)
    return entry.digest if entry else None
