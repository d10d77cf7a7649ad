"""Fetches one file from several peers at once, and believes none of them.

Each peer says what the checksums of the blocks are. Peers that say the same work together; each block is compared as
it comes, and who sends a wrong one is dropped. The sha256 of the whole decides in the end: where it differs, those
who agreed on the checksums were all wrong, and the next group is asked.

An interrupted fetch goes on where it was: the bytes on the disk are compared with the checksums again, so that no
journal is needed which a power cut could make a liar.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nomoat.base.digests import sha256_file
from nomoat.base.errors import InputError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.base.progress import Progress
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import PeersError
from nomoat.share.lan.blocks import SUM_BYTES, block_count, block_sum
from nomoat.share.lan.offers import Offer
from nomoat.share.lan.peers import Peer, PeerTrouble, WrongBlock
from nomoat.share.lan.pieces import Piece, Pieces

__all__ = ["Fetched", "fetch"]

_CONNECTIONS_PER_PEER = 2
_LONGEST_PIECE = 8  # blocks
_MOST_FAILURES = 4  # in a row, of one connection
_PAUSE_SECONDS = 0.25
_SECONDS_FOR_OTHERS = 2.0
_AGAIN = "run the same command again: it goes on where it stopped"


@dataclass
class Fetched:
    """What a fetch has come to: bytes by peer, bytes that were there already, and who was dropped for what."""

    bytes_by_peer: dict[str, int] = field(default_factory=dict)
    resumed_bytes: int = 0
    dropped: dict[str, str] = field(default_factory=dict)


def fetch(digest: str, offers: Sequence[Offer], target: Path, progress: Progress) -> Fetched:
    """Write the file `digest` (`sha256:...`) to `target` from the peers of `offers`, whole or not at all.

    Meanwhile it is `target` with `.part` at the end, from which a later call goes on. Runs an event loop of its own.
    Raises `PeersError` where no peer could give all of it, `InputError` where another process is at it,
    `DiskFullError`. What peers sent is in the result, or in the error.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(target):
        if target.is_file() and sha256_file(target) == digest:
            return Fetched(resumed_bytes=target.stat().st_size)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _held(part) as handle:
            fetched = asyncio.run(_Fetch(digest, part, handle, progress).run(offers))
            os.fsync(handle)
            part.replace(target)
            fsync_folder(target.parent)
    return fetched


@contextlib.contextmanager
def _held(part: Path) -> Iterator[int]:
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{part}: another process is fetching this", "wait until it is done") from error
        yield handle
    finally:
        os.close(handle)


class _Blocks(NamedTuple):
    """What a file looks like, in a peer's words."""

    size_bytes: int
    sums: bytes

    def sum(self, index: int) -> bytes:
        return self.sums[index * SUM_BYTES : (index + 1) * SUM_BYTES]

    def length(self, index: int) -> int:
        return min(BLOCK_BYTES, self.size_bytes - index * BLOCK_BYTES)


class _Fetch:
    """One fetch."""

    def __init__(self, digest: str, part: Path, handle: int, progress: Progress) -> None:
        self._digest, self._part, self._handle, self._progress = digest, part, handle, progress
        self._fetched = Fetched()

    async def run(self, offers: Sequence[Offer]) -> Fetched:
        async with contextlib.AsyncExitStack() as stack:
            unique = {offer.url: offer for offer in offers}.values()
            peers = [await stack.enter_async_context(Peer(offer.peer, offer.url)) for offer in unique]
            for blocks, group in await self._groups(peers):
                if await self._complete(blocks, group) and await self._is_right(blocks, group):
                    self._drop_others(peers, group)
                    return self._fetched
        told = "; ".join(f"{peer}: {reason}" for peer, reason in self._fetched.dropped.items())
        raise PeersError(
            f"{self._digest} could not be fetched from this network ({told or 'no peers'})", _AGAIN
        )

    async def _groups(self, peers: Sequence[Peer]) -> list[tuple[_Blocks, list[Peer]]]:
        """Peers that say the same of the file's blocks, the largest group first."""
        asked = {asyncio.ensure_future(self._blocks_of(peer)): peer for peer in peers}
        await _until_most_have_answered(list(asked))
        groups: dict[_Blocks, list[Peer]] = {}
        for task, peer in asked.items():
            if not task.done():
                task.cancel()
                self._drop(peer, "does not answer")
            elif (blocks := task.result()) is not None:
                groups.setdefault(blocks, []).append(peer)
        await asyncio.gather(*asked, return_exceptions=True)
        return sorted(groups.items(), key=lambda item: -len(item[1]))

    async def _blocks_of(self, peer: Peer) -> _Blocks | None:
        try:
            size_bytes, sums = await peer.blocks(self._digest)
        except PeerTrouble as trouble:
            self._drop(peer, str(trouble))
            return None
        if len(sums) != block_count(size_bytes) * SUM_BYTES:
            self._drop(peer, "sent no sensible checksums")
            return None
        return _Blocks(size_bytes, sums)

    async def _complete(self, blocks: _Blocks, group: Sequence[Peer]) -> bool:
        """Fetch what is missing from this group; False where all of it were dropped before the end."""
        os.ftruncate(self._handle, blocks.size_bytes)
        missing = await asyncio.to_thread(self._missing, blocks)
        workers = len(group) * _CONNECTIONS_PER_PEER
        pieces = Pieces(missing, max(1, min(_LONGEST_PIECE, len(missing) // (2 * workers))))
        self._progress.start("Fetching", blocks.size_bytes / 1e6, "MB")
        self._progress.advance((blocks.size_bytes - sum(map(blocks.length, missing))) / 1e6)
        if missing:
            await _until_one_says_done(
                [self._work(peer, pieces, blocks) for peer in group for _ in range(_CONNECTIONS_PER_PEER)]
            )
        self._progress.finish()
        return pieces.complete

    def _missing(self, blocks: _Blocks) -> list[int]:
        missing = []
        for index in range(block_count(blocks.size_bytes)):
            data = os.pread(self._handle, blocks.length(index), index * BLOCK_BYTES)
            if block_sum(data) == blocks.sum(index):
                self._fetched.resumed_bytes += len(data)
            else:
                missing.append(index)
        return missing

    async def _work(self, peer: Peer, pieces: Pieces, blocks: _Blocks) -> bool:
        """Fetch pieces over one connection. True where the file is complete, False where the peer was dropped."""
        failures = 0
        while not pieces.complete:
            if peer.name in self._fetched.dropped:
                return False
            changed = pieces.changed
            if (piece := pieces.take(asyncio.current_task())) is None:
                await changed.wait()
                continue
            begun = piece.next
            try:
                await self._fetch_piece(peer, piece, pieces, blocks)
            except WrongBlock as wrong:
                self._drop(peer, str(wrong))
            except PeerTrouble as trouble:
                failures = 1 if piece.next > begun else failures + 1
                if failures >= _MOST_FAILURES:
                    self._drop(peer, str(trouble))
            finally:
                pieces.end(piece)
            if failures and peer.name not in self._fetched.dropped:
                await asyncio.sleep(_PAUSE_SECONDS * failures)
        return True

    async def _fetch_piece(self, peer: Peer, piece: Piece, pieces: Pieces, blocks: _Blocks) -> None:
        start, end = piece.next * BLOCK_BYTES, min(piece.end * BLOCK_BYTES, blocks.size_bytes)
        async with contextlib.aclosing(peer.read(self._digest, start, end)) as stream:
            async for data in stream:
                index = piece.next
                if block_sum(data) != blocks.sum(index):
                    raise WrongBlock(f"block {index} is not what it says")
                if pieces.got(index):
                    self._keep(peer, index, data)
                piece.next = index + 1
                if piece.next >= piece.end:
                    return

    def _keep(self, peer: Peer, index: int, data: bytes) -> None:
        position = index * BLOCK_BYTES
        while data:
            written = os.pwrite(self._handle, data, position)
            position, data = position + written, data[written:]
        size = position - index * BLOCK_BYTES
        counts = self._fetched.bytes_by_peer
        counts[peer.name] = counts.get(peer.name, 0) + size
        self._progress.advance(size / 1e6, f"{len(counts)} peers" if len(counts) > 1 else "")

    async def _is_right(self, blocks: _Blocks, group: Sequence[Peer]) -> bool:
        if await asyncio.to_thread(sha256_file, self._part) == self._digest:
            return True
        for peer in group:
            self._drop(peer, f"what it has is not {self._digest}")
        return False

    def _drop_others(self, peers: Sequence[Peer], group: Sequence[Peer]) -> None:
        """Name those whose checksums were not the right ones, though nothing had to be asked of them."""
        for peer in peers:
            if peer not in group:
                self._drop(peer, "its checksums are not those of the file")

    def _drop(self, peer: Peer, reason: str) -> None:
        if peer.name not in self._fetched.dropped:
            self._fetched.dropped[peer.name] = reason
            self._progress.say(f"{peer.name}: {reason}; it is not asked any more")


async def _until_most_have_answered(tasks: Sequence[asyncio.Future[_Blocks | None]]) -> None:
    """Wait for all; once one has a good answer, for the others only a little longer."""
    waiting = set(tasks)
    while waiting and not any(task.done() and task.result() for task in tasks):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if waiting:
        await asyncio.wait(waiting, timeout=_SECONDS_FOR_OTHERS)


async def _until_one_says_done(works: Sequence[Coroutine[None, None, bool]]) -> None:
    """Run all; stop them once one returns True, for then others only wait for peers that are not needed any more."""
    waiting = {asyncio.ensure_future(work) for work in works}
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any([task.result() for task in done]):
                return
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
