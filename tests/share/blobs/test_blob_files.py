"""Blobs in a folder: whole or not there, and never handed out damaged."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.limits import files_of_at_most

from nomoat.base.errors import DiskFullError, NotFoundError
from nomoat.share.blobs.files import FileBlobs
from nomoat.share.blobs.store import BLOCK_BYTES, BlobInfo
from nomoat.share.errors import DamagedBlobError, RefusedError

_SIZES = [0, 1, 1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 77]


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def add(blobs: FileBlobs, data: bytes) -> BlobInfo:
    with blobs.incoming() as incoming:
        incoming.write(data)
        return incoming.finish()


def files(blobs: FileBlobs, tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())


@pytest.mark.parametrize("size", _SIZES)
def test_what_was_written_is_read(blobs: FileBlobs, size: int) -> None:
    data = content(size)
    info = add(blobs, data)
    assert (info.digest, info.size_bytes) == (digest_of(data), size)
    assert blobs.info(info.digest) == info
    assert list(blobs.all()) == [info]
    with blobs.open(info.digest) as reader:
        assert reader.read() == data
    blobs.check(info.digest)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_range_of_any_writing(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    blobs = FileBlobs(tmp_path_factory.mktemp("blobs"))
    size = data.draw(st.sampled_from(_SIZES))
    expected = content(size)
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    with blobs.incoming() as incoming:
        for start, end in zip([0, *cuts], [*cuts, size], strict=True):
            incoming.write(memoryview(expected)[start:end])
        info = incoming.finish(digest_of(expected), size)
    with blobs.open(info.digest) as reader:
        plain = io.BytesIO(expected)
        for _ in range(5):
            offset = data.draw(st.integers(0, size + 10))
            count = data.draw(st.integers(0, size + 10))
            assert reader.seek(offset) == plain.seek(offset)
            assert reader.read(count) == plain.read(count)
        assert reader.seek(0, io.SEEK_END) == size


def test_something_else_than_announced_is_refused(blobs: FileBlobs, tmp_path: Path) -> None:
    for digest, size, problem in (
        (digest_of(b"other"), None, "announced"),
        (None, 4, "3 bytes arrived where 4"),
    ):
        with pytest.raises(RefusedError, match=problem), blobs.incoming() as incoming:
            incoming.write(b"abc")
            incoming.finish(digest, size)
    assert files(blobs, tmp_path) == []


def test_an_upload_that_stops_leaves_nothing(blobs: FileBlobs, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), blobs.incoming() as incoming:
        incoming.write(b"abc")
        raise KeyboardInterrupt
    assert files(blobs, tmp_path) == []


@pytest.mark.parametrize("place", [0, BLOCK_BYTES + 5, 3 * BLOCK_BYTES + 76])
def test_a_damaged_block_is_told_and_never_handed_out(blobs: FileBlobs, place: int) -> None:
    data = content(3 * BLOCK_BYTES + 77)
    digest = add(blobs, data).digest
    with blobs.path(digest).open("r+b") as handle:
        handle.seek(place)
        handle.write(bytes([data[place] ^ 1]))
    with blobs.open(digest) as reader:
        for block in range(4):
            reader.seek(block * BLOCK_BYTES)
            if block == place // BLOCK_BYTES:
                with pytest.raises(DamagedBlobError, match=f"bytes {block * BLOCK_BYTES:,}"):
                    reader.read(10)
            else:
                assert reader.read(10) == data[block * BLOCK_BYTES :][:10]
    with pytest.raises(DamagedBlobError, match="the whole file"):
        blobs.check(digest)


@pytest.mark.parametrize("length", [0, 5, BLOCK_BYTES, 2 * BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_a_file_of_another_length_is_told(blobs: FileBlobs, length: int) -> None:
    digest = add(blobs, content(2 * BLOCK_BYTES)).digest
    with blobs.path(digest).open("r+b") as handle:
        handle.truncate(length)
    with pytest.raises(DamagedBlobError), blobs.open(digest) as reader:
        reader.read()


def test_lost_checksums_are_told(blobs: FileBlobs) -> None:
    digest = add(blobs, b"abc").digest
    blobs.path(digest).with_name(blobs.path(digest).name + ".sums").unlink()
    with pytest.raises(DamagedBlobError):
        blobs.open(digest)


def test_sending_it_again_heals_a_damaged_blob(blobs: FileBlobs) -> None:
    digest = add(blobs, b"abcdef").digest
    blobs.path(digest).write_bytes(b"abcdeX")
    assert add(blobs, b"abcdef").digest == digest
    with blobs.open(digest) as reader:
        assert reader.read() == b"abcdef"


def test_a_full_disk_leaves_nothing_half(blobs: FileBlobs, tmp_path: Path) -> None:
    known = add(blobs, b"was here before").digest
    with files_of_at_most(100_000), pytest.raises(DiskFullError, match="no room"):
        with blobs.incoming() as incoming:
            incoming.write(content(200_000))
    assert len(files(blobs, tmp_path)) == 2  # what was there before, and its checksums
    with blobs.open(known) as reader:
        assert reader.read() == b"was here before"


def test_threads_that_write_the_same(blobs: FileBlobs, tmp_path: Path) -> None:
    data = content(2 * BLOCK_BYTES + 5)
    threads = [threading.Thread(target=add, args=(blobs, data)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(blobs, tmp_path)) == 2
    blobs.check(digest_of(data))


def test_a_file_of_this_machine_is_whole_or_not_had(blobs: FileBlobs) -> None:
    with blobs.incoming() as incoming:
        incoming.write(b"weights" * 1000)
        digest = incoming.finish().digest
    with blobs.local(digest) as path:
        assert path.read_bytes() == b"weights" * 1000
    assert path.is_file(), "it is the blob's own"
    path.write_bytes(b"Weights" * 1000)
    with pytest.raises(DamagedBlobError), blobs.local(digest):
        pass


def test_what_is_not_there(blobs: FileBlobs) -> None:
    digest = digest_of(b"nothing")
    assert blobs.info(digest) is None
    assert blobs.url(digest, "x", 10) is None
    for action in (blobs.open, blobs.check):
        with pytest.raises(NotFoundError):
            action(digest)
    blobs.delete(digest)


def test_deleting_takes_the_checksums_along(blobs: FileBlobs, tmp_path: Path) -> None:
    blobs.delete(add(blobs, b"abc").digest)
    assert files(blobs, tmp_path) == []


def test_leftovers_of_interrupted_uploads_are_swept_when_they_are_old(
    blobs: FileBlobs, tmp_path: Path
) -> None:
    leftover = tmp_path / "blobs" / "incoming" / "x.part"
    leftover.write_bytes(b"half")
    assert blobs.sweep_incoming() == 0
    assert blobs.sweep_incoming(older_than_seconds=-1) == 1
    assert not leftover.exists()
