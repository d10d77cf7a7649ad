"""Fetching from several peers: right, wrong, slow, silent and dying ones."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lan_peers import (
    ConsistentLiar,
    Liar,
    Mute,
    Slow,
    offer_from,
    served,
    shelf_of,
    started,
)
from limits import files_of_at_most
from made_things import made_model, store_at
from nomoat.base.digests import sha256_file
from nomoat.base.errors import DiskFullError, InputError
from nomoat.base.progress import Silent
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import PeersError
from nomoat.share.lan.blocks import Shelf
from nomoat.share.lan.fetch import fetch
from nomoat.share.lan.offers import Offer
from nomoat.share.lan.pieces import Pieces
from nomoat.store.store import Store


@contextlib.contextmanager
def _peers(store: Store, word: str, **kinds: type[Shelf]) -> Iterator[list[Offer]]:
    """Offers of the test's model by peers of these kinds, in this process."""
    with contextlib.ExitStack() as stack:
        urls = {
            peer: stack.enter_context(served(shelf_of(store, f"m-{word}", kind=kind), peer))
            for peer, kind in kinds.items()
        }
        yield [offer_from(store, f"m-{word}", peer, url) for peer, url in urls.items()]


def test_several_peers_work_together(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, one=Shelf, two=Shelf, three=Shelf) as offers:
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert len(fetched.bytes_by_peer) > 1 and not fetched.dropped
    assert sum(fetched.bytes_by_peer.values()) == (tmp_path / "got").stat().st_size
    assert not (tmp_path / "got.part").exists()


def test_a_peer_that_sends_a_wrong_block_is_dropped_and_named(
    store: Store, word: str, tmp_path: Path
) -> None:
    with _peers(store, word, honest=Shelf, liar=Liar) as offers:
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert list(fetched.dropped) == ["liar"] and "is not what it says" in fetched.dropped["liar"]
    assert fetched.bytes_by_peer["honest"] >= 10 * BLOCK_BYTES


def test_liars_who_agree_lose_against_the_digest(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, ann=ConsistentLiar, bob=ConsistentLiar, honest=Shelf) as offers:
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert sorted(fetched.dropped) == ["ann", "bob"]
    # Two of three blocks were right, and are not fetched again.
    assert fetched.bytes_by_peer["honest"] <= 5 * BLOCK_BYTES


def test_nothing_is_adopted_from_liars_alone(store: Store, word: str, tmp_path: Path) -> None:
    with (
        _peers(store, word, ann=ConsistentLiar, bob=Liar) as offers,
        pytest.raises(PeersError, match="ann: what it has is not sha256") as caught,
    ):
        fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert "bob: block" in caught.value.message
    assert not (tmp_path / "got").exists()


def test_a_slow_peer_does_not_hold_up_the_others(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, quick=Shelf, slow=Slow) as offers:
        begun = time.monotonic()
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
        seconds = time.monotonic() - begun
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert seconds < 2.5, "alone, the slow peer's half takes it longer"
    assert fetched.bytes_by_peer["quick"] > 8 * BLOCK_BYTES


def test_a_peer_that_falls_silent_is_not_waited_for(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, quick=Shelf, silent=Mute) as offers:
        begun = time.monotonic()
        fetch(offers[0].digest, offers, tmp_path / "got", Silent())
        assert time.monotonic() - begun < 4
    assert sha256_file(tmp_path / "got") == offers[0].digest


class _Killing(Silent):
    """Kills a process once some blocks are there."""

    def __init__(self, process: subprocess.Popen[str], after_mb: float) -> None:
        self._process, self._left = process, after_mb

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self._left -= amount
        if self._left < 0 and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)


def test_a_peer_that_dies_is_replaced_by_another(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, slow=Slow) as offers, started(store.home, f"m-{word}") as dying:
        offers.append(offer_from(store, f"m-{word}", "dying", dying.url))
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", _Killing(dying.process, 3))
        assert dying.process.poll() is not None
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert fetched.bytes_by_peer["slow"] > 0 and fetched.bytes_by_peer["dying"] > 0


def test_what_all_peers_together_cannot_give_is_left_for_the_next_time(
    store: Store, word: str, tmp_path: Path
) -> None:
    with started(store.home, f"m-{word}") as dying:
        offers = [offer_from(store, f"m-{word}", "dying", dying.url)]
        with pytest.raises(PeersError, match="dying: went away"):
            fetch(offers[0].digest, offers, tmp_path / "got", _Killing(dying.process, 3))
    assert not (tmp_path / "got").exists() and (tmp_path / "got.part").exists()
    with _peers(store, word, another=Shelf) as offers:
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert fetched.resumed_bytes >= 3 * BLOCK_BYTES
    assert fetched.resumed_bytes + fetched.bytes_by_peer["another"] == (tmp_path / "got").stat().st_size


FETCH = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from nomoat.base.progress import Silent
    from nomoat.share.lan.fetch import fetch
    from nomoat.share.lan.offers import Offer
    digest, url, target = sys.argv[1:]
    fetch(digest, [Offer("m", "model", digest, 1, "slow", url)], Path(target), Silent())
    """
)


def test_a_fetch_that_was_killed_goes_on_and_trusts_no_block_on_the_disk(
    store: Store, word: str, tmp_path: Path
) -> None:
    part = tmp_path / "got.part"
    with _peers(store, word, slow=Slow) as offers:
        argv = [sys.executable, "-c", FETCH, offers[0].digest, offers[0].url, str(tmp_path / "got")]
        with subprocess.Popen(argv) as process:
            _wait_for_blocks(part, 3)
            with pytest.raises(InputError, match="another process"):
                fetch(offers[0].digest, offers, tmp_path / "got", Silent())
            process.kill()
    with part.open("r+b") as handle:  # a block that never reached the disk, as after a power cut
        handle.write(bytes(4096))
    with _peers(store, word, quick=Shelf) as offers:
        fetched = fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert fetched.resumed_bytes >= 2 * BLOCK_BYTES


def _wait_for_blocks(part: Path, blocks: int) -> None:
    deadline = time.monotonic() + 20
    while not part.exists() or part.stat().st_blocks * 512 < blocks * BLOCK_BYTES:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_is_said_and_leaves_nothing_wrong(store: Store, word: str, tmp_path: Path) -> None:
    with _peers(store, word, one=Shelf) as offers:
        previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with files_of_at_most(2 * BLOCK_BYTES), pytest.raises(DiskFullError):
                fetch(offers[0].digest, offers, tmp_path / "got", Silent())
        finally:
            signal.signal(signal.SIGXFSZ, previous)
        assert not (tmp_path / "got").exists()
        fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest


def test_an_address_elsewhere_is_never_asked(tmp_path: Path) -> None:
    offer = Offer("m", "model", "sha256:" + "0" * 64, 1, "far", "http://203.0.114.1:80")
    with pytest.raises(InputError, match="no address in this network"):
        fetch(offer.digest, [offer], tmp_path / "got", Silent())


def test_a_file_that_changes_while_it_is_offered_is_not_handed_out(
    tmp_path: Path, store: Store, word: str
) -> None:
    shelf = shelf_of(store, f"m-{word}")
    digest = shelf.things[0].digest
    path = store.resolve(f"m-{word}").path
    with path.open("r+b") as handle:
        handle.seek(5 * BLOCK_BYTES + 7)
        handle.write(b"\0\1\2\3")
    with served(shelf, "changed") as url, pytest.raises(PeersError, match="changed: "):
        fetch(digest, [Offer("m", "model", digest, 1, "changed", url)], tmp_path / "got", Silent())


def test_pieces_are_taken_over_until_the_last_block() -> None:
    pieces = Pieces(range(8), longest=8)
    slow = pieces.take("slow")
    assert slow is not None and (slow.next, slow.end) == (0, 8)
    taken = []
    while (piece := pieces.take("quick")) is not None:
        for index in range(piece.next, piece.end):
            assert pieces.got(index)
            piece.next += 1
        taken.append(piece.begun_at)
        pieces.end(piece)
    assert taken == [4, 2, 1, 0] and pieces.complete
    assert not pieces.got(0), "the slow worker comes too late"


def test_a_model_of_no_whole_number_of_blocks_and_an_empty_file(tmp_path: Path) -> None:
    store = store_at(tmp_path / "home")
    store.import_file(made_model(tmp_path / "m.gguf", 3, mebibytes=0), "m-tiny")
    with _peers(store, "tiny", one=Shelf) as offers:
        fetch(offers[0].digest, offers, tmp_path / "got", Silent())
    assert sha256_file(tmp_path / "got") == offers[0].digest
    assert os.stat(tmp_path / "got").st_size < BLOCK_BYTES
