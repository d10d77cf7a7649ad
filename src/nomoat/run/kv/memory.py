"""What the KV memory holds: for every prompt it finds the longest beginning that need not be computed again.

Sequences that have ended stay as long as there is room, the longest unused goes first. A new one that begins like
another refers to the same cells. What goes is kept on disk where a shelf is given, and what stays is put there, too,
when nothing else is to be done; so it comes back after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.context import Context, NoRoom
from nomoat.run.kv.prefix_tree import PrefixTree
from nomoat.run.kv.shelf import Shelf

__all__ = ["Claim", "Held", "KVMemory"]

_LEAST_SHARED = 8  # below this, referring to another's cells is not worth a sequence of its own
_LEAST_RESTORED = 64  # tokens that the disk must spare to be asked
_LEAST_SAVED = 256  # tokens that were computed anew; less is computed again sooner than it is read
_GROWTH = 4  # a state is written again once it has grown by this part: disks wear out
# Cells of sequences that have ended, which every evaluation passes over. Where they come
# back from disk in milliseconds, few are kept; the shares are what SmolLM2's evaluations lose to them.
_IDLE_CELLS, _IDLE_CELLS_WITHOUT_SHELF = 1024, 4096  # 4 %, 16 %


@dataclass(eq=False)
class Held:
    """A sequence of the context: its id, what computed it (adapters), and the tokens that it holds."""

    sequence: int
    adapters: AdapterSet
    tokens: list[int] = field(default_factory=list)
    saved: int = 0
    """How many tokens there were when it was last saved, or restored."""
    busy: bool = True
    used_at: float = 0.0
    known: list[int] = field(default_factory=list)
    """The tokens under which the tree knows it."""


@dataclass(frozen=True)
class Claim:
    """A sequence for a new prompt; of its tokens `cached` were in memory and `restored` came from the shelf."""

    held: Held
    cached: int
    restored: int


class KVMemory:
    """Hands out the context's sequences."""

    def __init__(self, context: Context, shelf: Shelf | None = None) -> None:
        self._context, self._shelf = context, shelf
        self._free = list(range(context.sequences))[::-1]
        self._held: dict[int, Held] = {}
        self._trees: dict[AdapterSet, PrefixTree] = {}
        self._most_idle = _IDLE_CELLS if shelf is not None else _IDLE_CELLS_WITHOUT_SHELF

    def claim(self, adapters: AdapterSet, tokens: Sequence[int]) -> Claim:
        """A sequence that holds as many of the first `tokens` as are known, at most all but the last.

        Raises `NoRoom` where every sequence is busy.
        """
        most = len(tokens) - 1
        length, holders = self._tree(adapters).longest(tokens[:most])
        held = self._reuse(adapters, length, holders) if length else None
        if self._shelf is not None and most - length >= _LEAST_RESTORED:
            restored = self._restored(self._shelf, adapters, tokens[:most], length)
            if restored is not None:
                if held is not None:
                    self.release(held)
                return Claim(restored, 0, len(restored.tokens))
        held = held or self.fresh(adapters)
        self._limit_idle()
        return Claim(held, len(held.tokens), 0)

    def fresh(self, adapters: AdapterSet) -> Held:
        """An empty sequence. Raises `NoRoom` where every sequence is busy."""
        if not self._free and not self.make_room():
            raise NoRoom
        held = Held(self._free.pop(), adapters)
        self._held[held.sequence] = held
        return held

    def publish(self, held: Held) -> None:
        """Let other prompts find what `held` holds by now."""
        if len(held.tokens) > len(held.known):
            held.known = list(held.tokens)
            self._tree(held.adapters).insert(held.known, held.sequence)

    def drop(self, held: Held) -> None:
        """Forget `held`."""
        self._unknow(held)
        self._context.forget(held.sequence)
        del self._held[held.sequence]
        self._free.append(held.sequence)

    def extend(self, held: Held, tokens: Sequence[int]) -> None:
        """`tokens` were evaluated behind what `held` holds."""
        held.tokens.extend(tokens)

    def truncate(self, held: Held, count: int) -> None:
        """Let `held` hold its first `count` tokens only, or none where the memory cannot."""
        if not self._context.truncate(held.sequence, count):
            count = 0
        if count < len(held.known):
            self._unknow(held)
        del held.tokens[count:]
        held.saved = min(held.saved, count)

    def release(self, held: Held) -> None:
        """`held` has ended; it stays until its cells are needed."""
        held.busy, held.used_at = False, time.monotonic()
        if not held.tokens:
            self.drop(held)
        else:
            self.publish(held)

    def make_room(self) -> bool:
        """Give up the longest unused sequence that has ended; False where there is none."""
        idle = self._idle()
        if idle:
            self._save(idle[0])
            self.drop(idle[0])
        return bool(idle)

    def forget_idle(self) -> None:
        """Give up every sequence that has ended; where none is busy, the memory is as new afterwards."""
        while self.make_room():
            pass
        if not self._held:
            self._context.clear()

    def save_one(self) -> bool:
        """Save one sequence that has ended and was not saved yet; False where there is none."""
        for held in self._idle():
            if self._is_unsaved(held):
                self._save(held)
                return True
        return False

    @property
    def busy_tokens(self) -> int:
        """Tokens of the sequences that somebody works on."""
        return sum(len(held.tokens) for held in self._held.values() if held.busy)

    @property
    def held_cells(self) -> int:
        """Cells in use, those that sequences share counted once."""
        unknown = sum(len(held.tokens) - len(held.known) for held in self._held.values())
        return unknown + self._count(self._held.values())

    def _reuse(self, adapters: AdapterSet, length: int, holders: frozenset[int]) -> Held | None:
        """An ended sequence that goes on where it stopped, or a new one that refers to a holder's cells."""
        known = [self._held[sequence] for sequence in holders]
        for held in known:
            if not held.busy and len(held.tokens) == length:
                held.busy = True
                return held
        if length < _LEAST_SHARED or not known:
            return None
        source = max(known, key=lambda held: (held.busy, held.used_at))  # the one that stays longest
        source.used_at = time.monotonic()
        # Not to be given up for the very sequence that refers to it.
        was_busy, source.busy = source.busy, True
        try:
            held = self.fresh(adapters)
        finally:
            source.busy = was_busy
        if self._context.share(source.sequence, held.sequence, length):
            held.tokens = source.tokens[:length]
            held.saved = min(source.saved, length)
        return held

    def _restored(self, shelf: Shelf, adapters: AdapterSet, tokens: Sequence[int], known: int) -> Held | None:
        if shelf.longest(adapters, tokens) < known + _LEAST_RESTORED:
            return None
        try:
            held = self.fresh(adapters)
        except NoRoom:
            return None
        count = shelf.restore(adapters, tokens, held.sequence)
        if count and self._context.truncate(held.sequence, count):
            held.tokens, held.saved = list(tokens[:count]), count
            return held
        self.drop(held)
        return None

    def _limit_idle(self) -> None:
        idle = self._idle()
        while idle and self._count(idle) > self._most_idle:
            self._save(idle[0])
            self.drop(idle.pop(0))

    def _count(self, group: Iterable[Held]) -> int:
        """Cells that only this group holds, as far as the trees know."""
        holders = {held.sequence for held in group}
        return sum(tree.count(holders) for tree in self._trees.values())

    def _idle(self) -> list[Held]:
        """Ended sequences, the longest unused first."""
        idle = (held for held in self._held.values() if not held.busy)
        return sorted(idle, key=lambda held: held.used_at)

    def _is_unsaved(self, held: Held) -> bool:
        grown = len(held.tokens) - held.saved
        return self._shelf is not None and grown >= max(_LEAST_SAVED, held.saved // _GROWTH)

    def _save(self, held: Held) -> None:
        if self._shelf is not None and self._is_unsaved(held):
            self._shelf.save(held.adapters, held.tokens, held.sequence)
            held.saved = len(held.tokens)

    def _tree(self, adapters: AdapterSet) -> PrefixTree:
        return self._trees.setdefault(adapters, PrefixTree())

    def _unknow(self, held: Held) -> None:
        if held.known:
            self._tree(held.adapters).remove(held.known, held.sequence)
            held.known = []
