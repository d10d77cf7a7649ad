"""Who fetches which blocks: pieces of a file, handed out in order, and taken over from peers that are slow."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Piece", "Pieces"]


@dataclass(eq=False)
class Piece:
    """Blocks `next` to `end - 1`, being fetched by `worker`. `end` shrinks when another worker takes some over."""

    next: int
    end: int
    worker: object = None
    begun: float = field(default_factory=time.monotonic)
    begun_at: int = 0
    shared: bool = False

    def seconds_left(self) -> float:
        """How long its worker will need at its speed so far; its whole time, where nothing has come yet."""
        elapsed = time.monotonic() - self.begun
        return (self.end - self.next) * elapsed / max(self.next - self.begun_at, 0.5)


class Pieces:
    """The blocks that are still missing."""

    def __init__(self, missing: Iterable[int], longest: int) -> None:
        """`longest`: blocks of the largest piece."""
        self._missing = set(missing)
        self._waiting = deque(_runs(sorted(self._missing), longest))
        self._running: set[Piece] = set()
        self.changed = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self._missing

    def take(self, worker: object) -> Piece | None:
        """The next piece; where none waits, half of what the slowest worker has ahead, or its last block too."""
        if self._waiting:
            piece = self._waiting.popleft()
        elif (slowest := self._slowest(worker)) is None:
            return None
        elif slowest.end - slowest.next > 1:
            middle = (slowest.next + slowest.end + 1) // 2
            piece, slowest.end = Piece(middle, slowest.end), middle
        else:
            slowest.shared = True
            piece = Piece(slowest.next, slowest.end, shared=True)
        piece.worker, piece.begun, piece.begun_at = worker, time.monotonic(), piece.next
        self._running.add(piece)
        return piece

    def got(self, index: int) -> bool:
        """Note that a block is there; False where another worker was faster."""
        if index not in self._missing:
            return False
        self._missing.remove(index)
        if self.complete:
            self._tell()
        return True

    def end(self, piece: Piece) -> None:
        """A worker has done with `piece`; what of it is missing waits for somebody again."""
        self._running.discard(piece)
        rest = [index for index in range(piece.next, piece.end) if index in self._missing]
        covered = {i for other in self._running for i in range(other.next, other.end)}
        self._waiting.extendleft(_runs([index for index in rest if index not in covered], len(rest) or 1))
        self._tell()

    def _slowest(self, worker: object) -> Piece | None:
        others = [
            piece
            for piece in self._running
            if piece.worker is not worker and piece.next < piece.end
            and not (piece.shared and piece.end - piece.next == 1)
        ]  # fmt: skip
        return max(others, key=Piece.seconds_left, default=None)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def _runs(indexes: list[int], longest: int) -> list[Piece]:
    """Neighbours together, at most `longest` of them."""
    runs: list[Piece] = []
    for index in indexes:
        if runs and runs[-1].end == index and index - runs[-1].next < longest:
            runs[-1].end += 1
        else:
            runs.append(Piece(index, index + 1))
    return runs
