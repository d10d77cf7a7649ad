"""The responses that clients asked to keep, one private file each, so that a conversation outlives the server.

    home/responses/<id>.json    0600 in a folder of 0700: the turn's own input, its answer, the id before it

A file holds one turn only. Deleting a response therefore really deletes its text, and a conversation that went
through it cannot be continued any more. Above `MOST_BYTES` or `MOST_FILES` the turns that were not used for the longest
time go.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.errors import NotFoundError
from nomoat.base.files import atomic_path, disk_errors
from nomoat.server.errors import BadRequest

__all__ = ["MOST_BYTES", "MOST_FILES", "ResponseStore", "Turn"]

MOST_BYTES = 64 << 20
MOST_FILES = 4096
"""So many are looked through in a few milliseconds, after each new one."""
_MOST_TURNS = 1000
_ID = re.compile(r"resp_[0-9a-f]{32}")


@dataclass(frozen=True)
class Turn:
    """One request and its answer. `input` and `response["output"]` are items as the API defines them."""

    input: list[dict[str, Any]]
    response: dict[str, Any]

    @property
    def items(self) -> list[dict[str, Any]]:
        """What this turn adds to the conversation."""
        output: list[dict[str, Any]] = self.response["output"]
        return [*self.input, *output]


class ResponseStore:
    """Turns by the id of their response. Safe to use from several threads and processes."""

    def __init__(self, home: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = home / "responses"
        self._most_bytes = most_bytes

    def write(self, turn: Turn) -> None:
        """Keep a turn. Raises `DiskFullError`."""
        path = self._path(turn.response["id"])
        with disk_errors(path):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"input": turn.input, "response": turn.response}, file, ensure_ascii=False)
        self._forget_oldest()

    def read(self, response_id: str) -> Turn:
        """A kept turn. Raises `NotFoundError`; a damaged file counts as none, and is removed."""
        path = self._path(response_id)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            turn = Turn(content["input"], content["response"])
            os.utime(path)  # the order in which turns are forgotten
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(response_id) from None
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            raise _missing(response_id) from None
        return turn

    def conversation(self, response_id: str | None) -> list[dict[str, Any]]:
        """All items up to and including that response, oldest first.

        Raises `BadRequest` where one of the turns is not kept (any more), or where there are too many.
        """
        turns: list[Turn] = []
        while response_id is not None:
            if len(turns) == _MOST_TURNS:
                raise BadRequest(f"a conversation of more than {_MOST_TURNS:,} kept turns",
                                 "previous_response_id", "send the part that matters as input")  # fmt: skip
            try:
                turn = self.read(response_id)
            except NotFoundError as error:
                raise BadRequest(
                    f"previous response {response_id[:50]!r} is not kept here", "previous_response_id",
                    "send the whole conversation as input",
                ) from error  # fmt: skip
            turns.append(turn)
            response_id = turn.response.get("previous_response_id")
        return [item for turn in reversed(turns) for item in turn.items]

    def remove(self, response_id: str) -> None:
        """Delete a turn. Raises `NotFoundError`."""
        path = self._path(response_id)
        try:
            path.unlink()
        except FileNotFoundError:
            raise _missing(response_id) from None

    def _path(self, response_id: str) -> Path:
        if not _ID.fullmatch(response_id):
            raise _missing(response_id)
        return self._folder / f"{response_id}.json"

    def _forget_oldest(self) -> None:
        """Keep the folder within its bounds; another process may remove files at the same time."""
        found = []
        for entry in os.scandir(self._folder):
            if _ID.fullmatch(entry.name.removesuffix(".json")):
                with contextlib.suppress(FileNotFoundError):
                    facts = entry.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, entry.path))
        total, count = sum(size for _, size, _ in found), len(found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes and count <= MOST_FILES:
                return
            Path(path).unlink(missing_ok=True)
            total, count = total - size, count - 1


def _missing(response_id: str) -> NotFoundError:
    return NotFoundError(f"no response {response_id[:50]!r} is kept here",
                         'it was made with "store": false, deleted, or forgotten for lack of room')  # fmt: skip
