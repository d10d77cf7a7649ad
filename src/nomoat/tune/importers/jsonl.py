"""JSONL and JSON files of training data: one record, one document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError
from nomoat.tune.importers.document import BAD_HINT, Document, ImportTally
from nomoat.tune.importers.json_values import json_values
from nomoat.tune.importers.reading import encoding_of, unreadable
from nomoat.tune.importers.records import EmptyRecordError, is_known_shape, record_messages
from nomoat.tune.rows import Message

__all__ = ["LINE_SUFFIXES", "LIST_SUFFIXES", "documents", "holds_training_data"]

LINE_SUFFIXES = (".jsonl", ".ndjson")
LIST_SUFFIXES = (".json",)


def documents(path: Path, source: str, tally: ImportTally) -> Iterator[Document]:
    """The records of `path` as documents, streaming; memory is that of the largest record.

    A bad line goes to `tally.reject` with its place: it raises, or it is counted and the next line follows.
    """
    is_list = path.suffix.lower() in LIST_SUFFIXES
    for number, record in _list_records(path, tally) if is_list else _line_records(path, tally):
        place = f"record {number}" if is_list else f"line {number}"
        try:
            content = record_messages(record)
        except EmptyRecordError:
            tally.empty_records += 1
            continue
        except ValueError as error:
            tally.reject(BadFileError(path, place, str(error), BAD_HINT))
            continue
        tally.documents["jsonl"] += 1
        yield _document(source, number, content, record)


def holds_training_data(path: Path) -> bool:
    """Whether the first record of a .json file can be parsed and has a known shape; an empty file may."""
    try:
        return next((is_known_shape(record) for record in json_values(path)), True)
    except BadFileError:  # settings with comments and the like: nothing says that this is training data
        return False


def _document(
    source: str, number: int, content: str | tuple[Message, ...], record: dict[str, Any]
) -> Document:
    if isinstance(content, str):
        return Document(source, "text", text=content, line=number)
    value, topic = record.get("value"), record.get("topic")
    # Other people's files may use these names for something else: only a value that the reply holds is ours.
    judged = isinstance(value, str) and bool(value.strip()) and value in content[-1].content
    return Document(
        source,
        "chat",
        messages=content,
        line=number,
        value=value if judged else None,
        topic=topic.encode(errors="replace").decode() if judged and isinstance(topic, str) else None,
    )


def _list_records(path: Path, tally: ImportTally) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(json_values(path), 1)
    except BadFileError as error:  # behind broken JSON there is no next record to go on with
        tally.reject(error)


def _line_records(path: Path, tally: ImportTally) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(path), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8") if isinstance(line, bytes) else line
            if text.strip():
                yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            tally.reject(BadFileError(path, f"line {number}", _problem(error), BAD_HINT))


def _lines(path: Path) -> Iterator[bytes | str]:
    """Lines by `\\n` alone: JSON strings may hold other separators. UTF-16 is decoded as a whole."""
    try:
        with path.open("rb") as handle:
            encoding = encoding_of(handle.read(4))
            handle.seek(0)
            if encoding.startswith("utf-8"):
                yield from handle
            else:
                yield from handle.read().decode(encoding).split("\n")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise BadFileError(path, f"byte {error.start}", f"not {encoding} text", BAD_HINT) from error


def _problem(error: ValueError | RecursionError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start} of the line)"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} (column {error.colno})"
    return (
        "not valid JSON: nested too deep" if isinstance(error, RecursionError) else f"not valid JSON: {error}"
    )
