"""Garbage collection: what goes, what stays, and pushes that are under way meanwhile."""

from __future__ import annotations

import os
import threading

import pytest
from sqlalchemy import insert, select, update

from conftest import Hub
from nomoat.base.errors import OverloadedError
from nomoat.base.progress import Silent
from nomoat.share.errors import RefusedError
from nomoat.share.registry.check import check
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.garbage import collect
from nomoat.share.registry.schema import blobs, tree_entries, xet_chunks, xet_segments, xet_xorbs


def test_goes_with_its_repository_after_the_grace(any_hub: Hub) -> None:
    repo, other = any_hub.repo("ines/gone"), any_hub.repo("ines/kept")
    any_hub.push(repo, {"a/only.bin": b"only here", "both.bin": b"in both"})
    any_hub.push(other, {"both.bin": b"in both"})
    any_hub.push(other, {"old.bin": b"an older state"})
    any_hub.registry.repos.delete(any_hub.person("ines"), repo.name)

    assert collect(any_hub.registry, Silent()).blobs == 0
    assert collect(any_hub.registry, Silent(), 0, dry_run=True).blobs == 1
    found = collect(any_hub.registry, Silent(), 0)

    assert (found.blobs, found.bytes, found.kept_blobs) == (1, len(b"only here"), 2)
    assert {info.size_bytes for info in any_hub.registry.store.all()} == {
        len(b"in both"),
        len(b"an older state"),
    }
    assert check(any_hub.registry, Silent()).problems == []
    with any_hub.registry.database.read() as connection:
        names = set(connection.scalars(select(tree_entries.c.name)))
    assert names == {"both.bin", "old.bin"}


def test_a_blob_that_was_just_sent_again_stays(hub: Hub) -> None:
    """Its new file is there, its record is still the old one."""
    file = hub.add(b"sent twice")
    with hub.registry.database.write() as connection:
        connection.execute(update(blobs).values(created_ms=now_ms() - 2 * 86_400_000))
    assert collect(hub.registry, Silent()).blobs == 0
    assert hub.registry.blobs.known(file.digest) is not None


def test_a_record_without_its_file_is_not_accepted(hub: Hub) -> None:
    repo, file = hub.repo("ines/model"), hub.add(b"taken away")
    hub.registry.store.delete(file.digest)
    with pytest.raises(RefusedError, match="never sent"):
        hub.registry.history.commit(repo, [file], hub.person("ines"), "too late")


def test_an_upload_whose_file_went_is_told(hub: Hub) -> None:
    with hub.registry.store.incoming() as incoming:
        incoming.write(b"collected in between")
        info = incoming.finish()
    hub.registry.store.delete(info.digest)
    with pytest.raises(OverloadedError):
        hub.registry.blobs.record(info)
    assert hub.registry.blobs.known(info.digest) is None


def test_pushes_beside_a_collector_without_grace(hub: Hub) -> None:
    """Whatever was committed is whole; a push may be refused, never broken."""
    repo, stop, made = hub.repo("ines/busy"), threading.Event(), []

    def clean() -> None:
        while not stop.is_set():
            collect(hub.registry, Silent(), 0)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(30):
            try:
                made.append(hub.push(repo, {f"{number}.bin": b"%d" % number}))
            except (RefusedError, OverloadedError):
                continue
    finally:
        stop.set()
        cleaner.join()
    assert check(hub.registry, Silent()).problems == []
    assert made
    assert len(hub.registry.history.log(repo)) == len(made)


def test_what_xet_knows_of_lost_blobs_goes(hub: Hub) -> None:
    kept, lost = hub.add(b"kept"), hub.add(b"lost")
    hub.push(hub.repo("ines/xet"), {"kept": b"kept"})
    with hub.registry.database.write() as connection:
        for xorb, place in (("a" * 64, kept.digest), ("b" * 64, lost.digest)):
            connection.execute(
                insert(xet_xorbs).values(hash=xorb, chunks=b"", digest=lost.digest, created_ms=0)
            )
            connection.execute(insert(xet_chunks).values(hash=xorb, xorb=xorb))
            row = {"xorb": xorb, "first_chunk": 0, "end_chunk": 1, "digest": place, "offset_bytes": 0}
            connection.execute(insert(xet_segments).values(row))
    collect(hub.registry, Silent(), 0)
    with hub.registry.database.read() as connection:
        for column in (xet_xorbs.c.hash, xet_chunks.c.xorb, xet_segments.c.xorb):
            assert connection.scalars(select(column)).all() == ["a" * 64]


def test_unrecorded_blobs_go(hub: Hub) -> None:
    with hub.registry.store.incoming() as incoming:
        incoming.write(b"killed before its record")
        info = incoming.finish()
    assert collect(hub.registry, Silent(), 0).unrecorded_blobs == 0, "its upload may be about to record it"
    path = next(hub.registry.config.root.glob("blobs/sha256/??/??/" + info.digest.removeprefix("sha256:")))
    os.utime(path, (0, 0))
    assert collect(hub.registry, Silent(), 0).unrecorded_blobs == 1
    assert list(hub.registry.store.all()) == []
