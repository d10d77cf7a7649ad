"""What the KV memory holds: for every prompt it finds the longest beginning that need not be computed again.

A sequence that begins while no other is busy lies in the first cells, in order: it goes on where it stopped, or what is
known of it is put back there. Then no evaluation passes over cells of others, and sums have one order. Beside busy ones
a new sequence refers to the cells of another that begins like it, and some that have ended stay for that. What goes is
parked outside of llama.cpp, and kept on disk where a shelf is given, as soon as nothing else is to be done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.context import Context, NoRoom
from nomoat.run.kv.parking import Parked, Parking
from nomoat.run.kv.prefix_tree import PrefixTree, common_prefix
from nomoat.run.kv.shelf import Shelf
from nomoat.store.memory import available_memory_bytes

__all__ = ["Claim", "Held", "KVMemory"]

_LEAST_SHARED = 8  # below this, referring to another's cells is not worth a sequence of its own
_LEAST_RESTORED = 64  # tokens that the disk must spare to be asked
_LEAST_SAVED = 256  # tokens that were computed anew; less is computed again sooner than it is read
_GROWTH = 4  # a state is written again once it has grown by this part: disks wear out
_IDLE_CELLS = (
    1024  # of ended sequences beside busy ones: every evaluation passes over them, at 4 % for SmolLM2
)
_PER_GAINED = 50  # a state of so many tokens is put back for each one that need not be computed
_AT_ONCE_BYTES = 64 << 20  # a state that is copied in a tenth of a second, in a quiet moment
_COPIES = 4  # a state is copied only where free memory would hold it so many times


@dataclass(eq=False)
class Held:
    """A sequence of the context: its id, what computed it (adapters), and the tokens that it holds."""

    sequence: int
    adapters: AdapterSet
    tokens: list[int] = field(default_factory=list)
    saved: int = 0
    """How many tokens there were when it was last saved, or restored."""
    parked: bool = False
    """Whether what it holds was offered to the parking."""
    busy: bool = True
    alone: bool = True
    """Whether it has lain in the first cells, in order, since it began."""
    used_at: float = 0.0
    known: list[int] = field(default_factory=list)
    """The tokens under which the tree knows it."""


@dataclass(frozen=True)
class Claim:
    """A sequence for a new prompt; of its tokens `cached` were in memory and `restored` came from the shelf."""

    held: Held
    cached: int
    restored: int


class _Source(NamedTuple):
    """A copy: `fill` puts it into an empty sequence and says how many of the wanted tokens it has."""

    fill: Callable[[int], int]
    on_disk: bool


class KVMemory:
    """Hands out the context's sequences."""

    def __init__(self, context: Context, parking: Parking, shelf: Shelf | None = None) -> None:
        self._context, self._parking, self._shelf = context, parking, shelf
        self._free = list(range(context.sequences))[::-1]
        self._held: dict[int, Held] = {}
        self._trees: dict[AdapterSet, PrefixTree] = {}

    def claim(self, adapters: AdapterSet, tokens: Sequence[int]) -> Claim:
        """A sequence that holds as many of the first `tokens` as are known, at most all but the last.

        Raises `NoRoom` where every sequence is busy.
        """
        wanted = tokens[:-1]
        alone = not any(held.busy for held in self._held.values())
        if alone:
            self._settle(adapters, wanted)
        held = self._reuse(adapters, wanted)
        sources = self._sources(adapters, wanted, len(held.tokens) if held is not None else 0)
        if sources and held is not None:
            self.release(held)
            held = None
        if sources and alone and self._park(list(self._held.values())):
            self.forget_idle()  # what comes back shall lie in the first cells
        claim = self._filled(adapters, wanted, sources)
        if claim is None:
            held = held or self._reuse(adapters, wanted) or self.fresh(adapters)
            claim = Claim(held, len(held.tokens), 0)
        self.publish(claim.held)
        while self._count(self._idle()) > _IDLE_CELLS:
            self.make_room()
        return claim

    def fresh(self, adapters: AdapterSet) -> Held:
        """An empty sequence. Raises `NoRoom` where every sequence is busy."""
        if not self._free and not self.make_room():
            raise NoRoom
        held = Held(self._free.pop(), adapters, alone=not self._held)
        for other in self._held.values():
            other.alone = False
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
        held.parked = False

    def truncate(self, held: Held, count: int) -> None:
        """Let `held` hold its first `count` tokens only, or none where the memory cannot."""
        if not self._context.truncate(held.sequence, count):
            count = 0
        if count < len(held.known):
            self._unknow(held)
        del held.tokens[count:]
        held.parked = False  # a longer copy does not always stand in for this one
        held.saved = min(held.saved, count)

    def take_back(self, held: Held) -> None:
        """An evaluation may have been stopped in its middle: what it had added counts as not done."""
        if self._context.held_tokens(held.sequence) != len(held.tokens):
            self.truncate(held, len(held.tokens))

    def release(self, held: Held) -> None:
        """`held` has ended; it stays until its cells are needed."""
        held.busy, held.used_at = False, time.monotonic()
        self.take_back(held)
        if not held.tokens:
            self.drop(held)
        else:
            self.publish(held)

    def make_room(self) -> bool:
        """Give up the longest unused sequence that has ended; False where there is none."""
        idle = self._idle()
        if idle:
            self._keep(idle[0])
            self.drop(idle[0])
        return bool(idle)

    def forget_idle(self) -> None:
        """Give up every sequence that has ended; where none is busy, the memory is as new afterwards."""
        while self.make_room():
            pass
        if not self._held:
            self._context.clear()

    def save_one(self) -> bool:
        """Keep what one ended sequence holds; False where there is none that was not kept yet. For quiet moments."""
        for held in self._idle():
            if self._is_unsaved(held) or (not held.parked and self._parks_soon(held)):
                self._keep(held)
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

    def _settle(self, adapters: AdapterSet, tokens: Sequence[int]) -> None:
        """Empty the memory for a sequence that begins so, but for one that lies in order and begins so, too."""
        ended = list(self._held.values())
        in_order = len(ended) == 1 and ended[0].alone and ended[0].adapters == adapters
        common = common_prefix(ended[0].tokens, tokens) if in_order else 0
        if in_order and common == len(ended[0].tokens):
            return
        if not self._park(ended):
            return
        if common >= _LEAST_SHARED and self._context.serves(ended[0].sequence, common):
            parked = self._parking.longest(adapters, tokens)
            if parked is None or parked[0] <= common:
                self.truncate(ended[0], common)
                self.publish(ended[0])
                return
        self.forget_idle()

    def _park(self, ended: Sequence[Held]) -> bool:
        """Copy what they hold to the parking; False where it does not take all of it."""
        for held in ended:
            self._keep(held)
        return all(self._parking.holds(held.adapters, held.tokens) for held in ended)

    def _reuse(self, adapters: AdapterSet, tokens: Sequence[int]) -> Held | None:
        """A sequence that holds as many of `tokens` as the cells know; None where they know too few."""
        for length, holders in reversed(list(self._tree(adapters).along(tokens))):
            known = [self._held[sequence] for sequence in holders]
            for held in known:
                if not held.busy and len(held.tokens) == length:  # it goes on where it stopped
                    held.busy = True
                    return held
            known = [held for held in known if self._context.serves(held.sequence, length)]
            if known and length >= _LEAST_SHARED:
                return self._shared(adapters, length, known)
        return None

    def _shared(self, adapters: AdapterSet, length: int, known: Sequence[Held]) -> Held:
        """A new sequence that refers to the first `length` cells of one of the `known`."""
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

    def _sources(self, adapters: AdapterSet, tokens: Sequence[int], known: int) -> list[_Source]:
        """Where more of `tokens` is kept than the `known` ones in the cells, as far as it pays to fetch them."""
        found = self._parking.longest(adapters, tokens)
        best = max(known, found[0] if found is not None else 0)
        sources: list[_Source] = []
        if self._shelf is not None and len(tokens) - best >= _LEAST_RESTORED:
            if self._shelf.longest(adapters, tokens) >= best + _LEAST_RESTORED:
                sources.append(_Source(partial(self._shelf.restore, adapters, tokens), on_disk=True))
        if found is not None and found[0] - known >= max(_LEAST_SHARED, len(found[1].tokens) // _PER_GAINED):
            sources.append(_Source(partial(self._put_back, *found), on_disk=False))
        return sources

    def _filled(
        self, adapters: AdapterSet, tokens: Sequence[int], sources: Iterable[_Source]
    ) -> Claim | None:
        """A sequence that the first of `sources` which can filled with the first of `tokens`."""
        for source in sources:
            try:
                held = self.fresh(adapters)
            except NoRoom:
                return None
            count = source.fill(held.sequence)
            if count and self._context.truncate(held.sequence, count):
                held.tokens = list(tokens[:count])
                held.saved = count if source.on_disk else 0
                return Claim(held, 0 if source.on_disk else count, count if source.on_disk else 0)
            self.drop(held)
        return None

    def _put_back(self, length: int, parked: Parked, sequence: int) -> int:
        fits = len(parked.tokens) <= self._context.cells
        return length if fits and self._context.restore(sequence, parked.state.data) else 0

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

    def _parks_soon(self, held: Held) -> bool:
        """Not a long conversation that is the only one: it goes on where it lies, and a copy takes as much again."""
        return len(self._held) > 1 or self._context.state_bytes(held.sequence) <= _AT_ONCE_BYTES

    def _keep(self, held: Held) -> None:
        """Copy what `held` holds to where it outlives its cells: the parking, and once it has grown the shelf."""
        parks = not held.parked and not self._parking.holds(held.adapters, held.tokens)
        shelf = self._shelf if self._is_unsaved(held) else None
        if shelf is not None:
            held.saved = len(held.tokens)
            if not shelf.wants(held.adapters, held.tokens, self._context.state_bytes(held.sequence)):
                shelf = None
        if (parks or shelf is not None) and (state := self._copy(held)) is not None:
            if parks:
                self._parking.put(Parked(held.adapters, list(held.tokens), state))
            if shelf is not None:
                shelf.save(held.adapters, held.tokens, state)
        held.parked = True

    def _copy(self, held: Held) -> NDArray[Any] | None:
        """The state of `held`; None where memory is short: nothing here ever fails a request."""
        with contextlib.suppress(MemoryError):
            if self._context.state_bytes(held.sequence) < available_memory_bytes() // _COPIES:
                return self._context.state(held.sequence)
        return None

    def _tree(self, adapters: AdapterSet) -> PrefixTree:
        return self._trees.setdefault(adapters, PrefixTree())

    def _unknow(self, held: Held) -> None:
        if held.known:
            self._tree(held.adapters).remove(held.known, held.sequence)
            held.known = []
