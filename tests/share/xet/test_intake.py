"""Xorbs that become files: by their run's name where it is the file, else copied; every chunk verified."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from nomoat.share.errors import QuotaError, RefusedError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.upkeep.garbage import collect
from nomoat.share.xet.chunking import chunks_of
from nomoat.share.xet.hashes import Chunk, chunk_hash, file_hash, range_hash, xorb_hash
from nomoat.share.xet.intake import Intake
from nomoat.share.xet.shard import _END, _ENTRY, _HEADER, _TAG, _VERIFIED, _WITH_SHA256
from nomoat.share.xet.xorb import Xorb

REPO = 1


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(RegistryConfig(tmp_path / "hub"))
    found.accounts.add("ada")
    yield found
    found.close()


@pytest.fixture
def ada(registry: Registry) -> Identity:
    return registry.accounts.identity("ada", "write")


def xorb(seed: int, count: int = 20) -> tuple[bytes, Xorb]:
    draw = np.random.default_rng(seed)
    pieces: list[bytes | memoryview] = [draw.bytes(60_000) for _ in range(count)]
    chunks = [Chunk(chunk_hash(piece), len(piece)) for piece in pieces]
    return xorb_hash(chunks), Xorb(chunks, pieces)


def shard(parts: Sequence[tuple[Xorb, int, int]], digest: str | None = None) -> bytes:
    """One file of parts of xorbs; `digest` is what it says of itself, by default the truth."""
    chosen = [found.chunks[start:end] for found, start, end in parts]
    content = b"".join(bytes(piece) for found, start, end in parts for piece in found.pieces[start:end])
    rows = [
        _ENTRY.pack(xorb_hash(found.chunks), 0, sum(chunk.size_bytes for chunk in chunks), start, end)
        for (found, start, end), chunks in zip(parts, chosen, strict=True)
    ]
    rows += [_ENTRY.pack(range_hash([chunk.hash for chunk in chunks]), 0, 0, 0, 0) for chunks in chosen]
    raw = bytes.fromhex(digest or hashlib.sha256(content).hexdigest())
    rows.append(_ENTRY.pack(b"".join(raw[at : at + 8][::-1] for at in range(0, 32, 8)), 0, 0, 0, 0))
    hash = file_hash([chunk for chunks in chosen for chunk in chunks])
    head = _HEADER.pack(_TAG, 2, 0) + _ENTRY.pack(hash, _VERIFIED | _WITH_SHA256, len(parts), 0, 0)
    return head + b"".join(rows) + _ENTRY.pack(_END, 0, 0, 0, 0) * 2


def content_of(*xorbs: Xorb) -> bytes:
    return b"".join(bytes(piece) for each in xorbs for piece in each.pieces)


def stored(registry: Registry, content: bytes) -> bool:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if registry.blobs.known(digest) is None:
        return False
    with registry.store.open(digest) as reader:
        return reader.read() == content


def runs_of(registry: Registry) -> list[Path]:
    return list((registry.config.root / "xorbs").glob("*"))


def test_a_run_that_is_the_file_only_gets_its_name(registry: Registry, ada: Identity) -> None:
    intake, (first, one), (second, two) = Intake(registry), xorb(1), xorb(2)
    assert intake.take_xorb(ada, REPO, first, one) and intake.take_xorb(ada, REPO, second, two)
    [run] = runs_of(registry)
    inode = run.stat().st_ino
    intake.take_shard(ada, REPO, shard([(one, 0, 20), (two, 0, 20)]))
    assert stored(registry, content_of(one, two)) and not runs_of(registry)
    blobs = [path for path in (registry.config.root / "blobs").rglob("*") if path.is_file()]
    assert inode in {path.stat().st_ino for path in blobs}
    found = intake.xorbs.find(ada, first)
    assert found is not None and b"".join(intake.xorbs.read(found, 3, 5)) == content_of(one)[180_000:300_000]


def test_a_file_of_parts_in_another_order_is_copied(registry: Registry, ada: Identity) -> None:
    intake, (first, one), (second, two) = Intake(registry), xorb(1), xorb(2)
    intake.take_xorb(ada, REPO, first, one)
    intake.take_xorb(ada, REPO, second, two)
    intake.take_shard(ada, REPO, shard([(two, 0, 20), (one, 5, 20), (one, 0, 20)]))
    assert stored(registry, content_of(two) + content_of(one)[300_000:] + content_of(one))
    assert not runs_of(registry)  # all of it is in a whole file
    intake.take_xorb(ada, REPO, *xorb(3))
    intake.take_shard(ada, REPO, shard([(xorb(3)[1], 0, 19)]))
    assert len(runs_of(registry)) == 1  # its last chunk is nowhere else


def test_what_came_before_the_hub_was_stopped_counts(registry: Registry, ada: Identity) -> None:
    (first, one), (second, two) = xorb(1), xorb(2)
    Intake(registry).take_xorb(ada, REPO, first, one)
    later = Intake(registry)
    later.take_xorb(ada, REPO, second, two)
    later.take_shard(ada, REPO, shard([(one, 0, 20), (two, 0, 20)]))
    assert stored(registry, content_of(one, two))


def test_another_digest_than_announced_is_refused(registry: Registry, ada: Identity) -> None:
    intake, (first, one) = Intake(registry), xorb(1)
    intake.take_xorb(ada, REPO, first, one)
    with pytest.raises(RefusedError, match="was announced"):
        intake.take_shard(ada, REPO, shard([(one, 0, 20)], digest="0" * 64))
    assert not list(registry.store.all())
    intake.take_shard(ada, REPO, shard([(one, 0, 20)]))
    assert stored(registry, content_of(one))


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_damaged_run_makes_no_file(registry: Registry, ada: Identity, damage: str) -> None:
    intake, (first, one) = Intake(registry), xorb(1)
    intake.take_xorb(ada, REPO, first, one)
    [run] = runs_of(registry)
    content = bytearray(run.read_bytes())
    content[700_000] ^= 1
    if damage == "gone":
        run.unlink()
    else:
        run.write_bytes(content if damage == "changed" else content[:-1])
    with pytest.raises(RefusedError):
        Intake(registry).take_shard(ada, REPO, shard([(one, 0, 20)]))
    assert not list(registry.store.all())
    again = Intake(registry)
    again.take_xorb(ada, REPO, first, one)
    again.take_shard(ada, REPO, shard([(one, 0, 20)]))
    assert stored(registry, content_of(one))


def test_others_cannot_use_what_somebody_sent(registry: Registry, ada: Identity) -> None:
    intake, (first, one) = Intake(registry), xorb(1)
    registry.accounts.add("eve")
    eve = registry.accounts.identity("eve", "write")
    intake.take_xorb(ada, REPO, first, one)
    assert intake.xorbs.find(eve, first) is None
    with pytest.raises(RefusedError, match="never sent"):
        intake.take_shard(eve, REPO, shard([(one, 0, 20)]))


def test_it_counts_against_the_quota_until_it_is_a_file(registry: Registry, ada: Identity) -> None:
    intake, (first, one) = Intake(registry), xorb(1)
    assert ada.user_id is not None
    registry.accounts.change("ada", quota_bytes=2_000_000)
    intake.take_xorb(ada, REPO, first, one)
    with pytest.raises(QuotaError):
        registry.claims.require_room(ada.user_id, ada.user_id, 900_000)
    intake.take_shard(ada, REPO, shard([(one, 0, 20)]))
    registry.claims.require_room(ada.user_id, ada.user_id, 800_000)
    with pytest.raises(QuotaError):
        registry.claims.require_room(ada.user_id, ada.user_id, 900_000)


def test_garbage_collection_takes_what_no_shard_came_for(registry: Registry, ada: Identity) -> None:
    intake, (first, one) = Intake(registry), xorb(1)
    intake.take_xorb(ada, REPO, first, one)
    collect(registry)
    assert runs_of(registry) and intake.xorbs.find(ada, first) is not None
    collect(registry, grace_seconds=-1)
    assert not runs_of(registry) and intake.xorbs.find(ada, first) is None
    intake.take_xorb(ada, REPO, first, one)  # the same client goes on
    intake.take_shard(ada, REPO, shard([(one, 0, 20)]))
    assert stored(registry, content_of(one))


def test_what_breaks_off_in_the_middle_spoils_its_run_only(registry: Registry, ada: Identity) -> None:
    intake, (first, one), (second, two) = Intake(registry), xorb(1), xorb(2)
    intake.take_xorb(ada, REPO, first, one)
    with pytest.raises(TypeError):
        intake.take_xorb(ada, REPO, second, Xorb(two.chunks, [two.pieces[0], None]))  # type: ignore[list-item]
    intake.take_xorb(ada, REPO, second, two)
    intake.take_shard(ada, REPO, shard([(one, 0, 20), (two, 0, 20)]))
    assert stored(registry, content_of(one, two))


def test_one_known_chunk_tells_of_the_whole_file(registry: Registry, ada: Identity) -> None:
    intake, xorbs = Intake(registry), [xorb(seed) for seed in (1, 2, 3)]
    for hash, each in xorbs:
        intake.take_xorb(ada, REPO, hash, each)
    intake.take_shard(ada, REPO, shard([(each, 0, 20) for _, each in xorbs]))
    told = intake.xorbs.with_chunk(ada, xorbs[0][1].chunks[0].hash)
    assert [each.hash for each in told] == [hash for hash, _ in xorbs]
    assert intake.xorbs.with_chunk(ada, xorbs[1][1].chunks[0].hash) == []  # for that one nobody asks


def test_a_file_that_came_otherwise_gets_chunks(registry: Registry, ada: Identity) -> None:
    repo = registry.repos.create(ada, RepoName("model", "ada", "notes"))
    content = np.random.default_rng(5).bytes(70_000_000)
    info = registry.blobs.add(content)
    operation = AddFile("m.bin", info.digest, info.size_bytes, "0" * 40, lfs=True)
    registry.history.commit(repo, [operation], ada, "one", "", branch="main", parent=None)
    intake = Intake(registry)
    assert intake.index_files(repo.id) == 1 and intake.index_files(repo.id) == 0
    first = next(chunks_of(io.BytesIO(content)))
    told = intake.xorbs.with_chunk(ada, first.hash)
    assert len(told) == 2
    assert b"".join(b"".join(intake.xorbs.read(each, 0, len(each.chunks))) for each in told) == content
    registry.accounts.add("eve")
    assert (
        len(intake.xorbs.with_chunk(registry.accounts.identity("eve", "write"), first.hash)) == 2
    )  # it is public
    registry.repos.change(ada, repo.name, private=True)
    assert intake.xorbs.with_chunk(registry.accounts.identity("eve", "write"), first.hash) == []
