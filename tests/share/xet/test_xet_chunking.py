"""Chunks and hashes against hf-xet itself: one differing bit would make every upload fail."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from nomoat.base.errors import InputError
from nomoat.share.xet.chunking import LEAST_BYTES, MOST_BYTES, chunks_of
from nomoat.share.xet.hashes import Chunk, file_hash, from_text, to_text

hf_xet = pytest.importorskip("hf_xet")


class _Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a network does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(99_991, size if size and size > 0 else 99_991))


def _content(kind: str, size: int) -> bytes:
    if kind == "zeros":
        return bytes(size)
    letters = b"abc" if kind == "text" else bytes(range(256))
    return bytes(random.Random(size).choices(letters, k=size))


@pytest.mark.parametrize("kind", ["random", "text", "zeros"])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 8191, 8192, 8193, 131_071, 131_072, 131_073, 9_000_001])
def test_a_file_has_the_hash_that_hf_xet_gives_it(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(_content(kind, size))
    with path.open("rb") as source:
        chunks = list(chunks_of(source))
    assert to_text(file_hash(chunks)) == hf_xet.hash_files([str(path)])[0].hash
    assert sum(chunk.size_bytes for chunk in chunks) == size
    assert all(LEAST_BYTES <= chunk.size_bytes <= MOST_BYTES for chunk in chunks[:-1])


def test_cuts_do_not_depend_on_how_the_bytes_arrive() -> None:
    content = _content("random", 1_500_000)
    assert list(chunks_of(_Trickle(content))) == list(chunks_of(io.BytesIO(content)))


def test_a_changed_header_changes_the_first_chunks_only() -> None:
    content = _content("random", 3_000_000)
    before = list(chunks_of(io.BytesIO(content)))
    after = list(chunks_of(io.BytesIO(b"a longer header" + content[4:])))
    assert len(set(after) - set(before)) <= 2


def test_a_hash_survives_its_odd_text() -> None:
    value = bytes(range(32))
    assert to_text(value).startswith("0706050403020100")
    assert from_text(to_text(value)) == value


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../" + "0" * 61])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        from_text(text)


def test_an_empty_file_has_no_chunks() -> None:
    no_chunks: list[Chunk] = []
    assert file_hash(no_chunks) == bytes(32)
