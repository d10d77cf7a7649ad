"""Patches: what changed travels, what comes out is the new file, and what cannot be is refused."""

from __future__ import annotations

import io
import struct

import blake3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.share.blobs.patch import (
    SMALL_BLOCK_BYTES,
    Copied,
    Literal,
    Patching,
    most_patch_bytes,
    patch_bytes,
    write_patch,
)
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.client.block_sums import BlockSums
from nomoat.share.client.outgoing import LocalFile
from nomoat.share.client.patches import changes
from nomoat.share.errors import RefusedError

OLD = np.random.default_rng(3).bytes(6 * BLOCK_BYTES + 12_345)


def sums_of(content: bytes, block_bytes: int = BLOCK_BYTES) -> BlockSums:
    places = range(0, len(content), block_bytes)
    sums = b"".join(blake3.blake3(content[at : at + block_bytes]).digest() for at in places)
    return BlockSums(sums, block_bytes, len(content))


def plan(old: bytes, new: bytes) -> list[Copied | Literal] | None:
    def small(start: int, end: int) -> BlockSums:
        return sums_of(old[start:end], SMALL_BLOCK_BYTES)

    return changes(LocalFile.of_bytes("m.bin", new), sums_of(old), small)


def applied(old: bytes, patch: bytes, most_bytes: int, pieces: int = 70_000) -> bytes:
    made = io.BytesIO()
    patching = Patching(io.BytesIO(old), made.write, most_bytes)
    for at in range(0, len(patch), pieces):
        patching.feed(patch[at : at + pieces])
    patching.finish()
    return made.getvalue()


@pytest.mark.parametrize(
    ("new", "most_sent"),
    [
        (b"changed" + OLD[7:], 10_000),
        (b"a longer header" * 500 + OLD[15:], 20_000),
        (OLD[3_000:], 10_000),
        (OLD[:3_000_000] + b"x" + OLD[3_000_001:], 10_000),
        (OLD + b"more", 10_000),
        (OLD[: 4 * BLOCK_BYTES], 10_000),
        (OLD, 1_000),
        (OLD[: 2 * BLOCK_BYTES] + bytes(3 * BLOCK_BYTES) + OLD[5 * BLOCK_BYTES :], 3 * BLOCK_BYTES + 1_000),
    ],
)
def test_little_travels_and_the_new_file_comes_out(new: bytes, most_sent: int) -> None:
    entries = plan(OLD, new)
    assert entries is not None
    patch = b"".join(write_patch(entries, io.BytesIO(new)))
    assert len(patch) == patch_bytes(entries) <= min(most_sent, most_patch_bytes(len(new)))
    assert applied(OLD, patch, len(new)) == new


def test_a_file_with_nothing_in_common_gets_no_patch() -> None:
    assert plan(OLD, np.random.default_rng(4).bytes(len(OLD))) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(OLD)), st.integers(-9_000, 9_000)), max_size=4))
def test_any_change_comes_out(edits: list[tuple[int, int]]) -> None:
    new = bytearray(OLD)
    for place, size in edits:
        new[place : place + max(0, -size)] = b"y" * max(0, size)
    entries = plan(OLD, bytes(new))
    if entries is not None:
        patch = b"".join(write_patch(entries, io.BytesIO(bytes(new))))
        assert applied(OLD, patch, len(new), pieces=1 << 20) == new


def entry(kind: bytes, offset: int, size: int) -> bytes:
    return struct.pack("<cQQ", kind, offset, size)


@pytest.mark.parametrize(
    "patch",
    [
        b"", b"nmpatch", b"nmpatch2" + entry(b"c", 0, 9), b"nmpatch1" + entry(b"c", 0, 9)[:-1],
        b"nmpatch1" + entry(b"d", 0, 9) + b"short", b"nmpatch1" + entry(b"x", 0, 9), b"nmpatch1" + entry(b"c", 0, 0),
        b"nmpatch1" + entry(b"c", 0, 1 << 63), b"nmpatch1" + entry(b"c", 99, 2), b"nmpatch1" + entry(b"c", 1 << 62, 9),
        b"nmpatch1" + entry(b"c", (1 << 64) - 1, 9),
        b"nmpatch1" + entry(b"c", 0, 9) * 200_000,
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(patch: bytes) -> None:
    with pytest.raises(RefusedError):
        applied(bytes(100), patch, 1_000_000)
