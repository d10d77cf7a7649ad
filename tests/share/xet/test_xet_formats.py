"""Xet's hashes and formats: known values, and what is damaged is refused and nothing else happens."""

from __future__ import annotations

import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.share.errors import RefusedError
from nomoat.share.xet.hashes import Chunk, chunk_hash, file_hash, from_text, to_text, xorb_hash
from nomoat.share.xet.shard import ShardXorb, read_shard, write_shard
from nomoat.share.xet.xorb import read_xorb


def test_hashes_are_written_in_four_numbers() -> None:
    raw = bytes(range(32))
    assert to_text(raw) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert from_text(to_text(raw)) == raw


def packed(content: bytes, scheme: int) -> bytes:
    grouped = b"".join(content[place::4] for place in range(4))
    body = {0: content, 1: lz4.frame.compress(content), 2: lz4.frame.compress(grouped)}[scheme]
    return bytes([0, *len(body).to_bytes(3, "little"), scheme, *len(content).to_bytes(3, "little")]) + body


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=300), st.sampled_from([0, 1, 2])), min_size=1, max_size=12
    )
)
def test_a_xorb_comes_back_as_it_was(parts: list[tuple[bytes, int]]) -> None:
    chunks = [Chunk(chunk_hash(content), len(content)) for content, _ in parts]
    data = b"".join(packed(content, scheme) for content, scheme in parts) + b"XETBLOB and a footer"
    xorb = read_xorb(data, xorb_hash(chunks))
    assert xorb.chunks == chunks and b"".join(xorb.pieces) == b"".join(content for content, _ in parts)


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
def test_garbage_is_refused(data: bytes, place: int, value: int) -> None:
    with pytest.raises(RefusedError):
        read_xorb(data, bytes(31) + b"\1")
    good = bytearray(write_shard([ShardXorb(b"x" * 32, (Chunk(b"c" * 32, 70),))]))
    good[place % len(good)] = value
    for content in (data, bytes(good)):
        try:
            read_shard(content)
        except RefusedError:
            continue


def test_a_shard_says_what_was_written() -> None:
    draw = np.random.default_rng(1)
    xorbs = tuple(
        ShardXorb(
            draw.bytes(32), tuple(Chunk(draw.bytes(32), int(size)) for size in draw.integers(1, 9000, count))
        )
        for count in (1, 5, 40)
    )
    assert read_shard(write_shard(xorbs)).xorbs == xorbs


def test_files_without_content_have_a_hash_of_zeros() -> None:
    assert file_hash([]) == xorb_hash([]) == bytes(32)
    one = [Chunk(chunk_hash(b"x"), 1)]
    assert xorb_hash(one) == one[0].hash != file_hash(one)
