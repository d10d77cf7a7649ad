"""The file behind a `History`: records of tokens, each with its length and checksum, appended one by one.

A record is written by one call, so a reader sees whole records; what a crash or a damaged disk leaves of one
is dropped with all that follows it. Only the owner can read the file: it holds what was said.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import NomoatError
from nomoat.base.files import atomic_write, lock_folder

__all__ = ["Journal", "vocabulary_key"]

_MARK = 0x316D686E  # "nhm1"
_HEADER = 3  # int32 words before the tokens of a record: mark, number of tokens, crc32 of the tokens
_SAMPLED = 256  # entries that tell one vocabulary from another
_MOST_WAITING = 100_000  # tokens that wait for the disk; beyond, the oldest are given up

Tokens = NDArray[np.int32]


class Journal:
    """One file `FOLDER/KEY.tokens`; the folder is made with mode 0700, the file with 0600."""

    def __init__(self, folder: Path, key: str, most_bytes: int = 3_000_000) -> None:
        """`key` names the vocabulary (a digest's characters). Above `most_bytes` the older half is dropped."""
        self._file, self._most_bytes = folder / f"{key}.tokens", most_bytes
        self._waiting: list[Tokens] = []
        self._damaged = False

    def read(self, most_tokens: int) -> Tokens:
        """The newest tokens, up to `most_tokens`; none where the file cannot be read."""
        try:
            content = self._file.read_bytes()
        except OSError:
            content = b""
        records = _records(content)
        self._damaged = sum(len(record) + _HEADER for record in records) * 4 != len(content)
        return np.concatenate([np.zeros(0, np.int32), *records])[-most_tokens:]

    def append(self, tokens: Tokens) -> None:
        """Add a record. While another process writes, or the disk is full, it waits for the next call."""
        self._waiting.append(tokens)
        while sum(map(len, self._waiting)) > _MOST_WAITING and len(self._waiting) > 1:
            del self._waiting[0]
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with lock_folder(self._file.parent) as free:
                if free:
                    self._write(b"".join(map(_record, self._waiting)))
                    self._waiting.clear()
        except (OSError, NomoatError):
            pass  # drafts are a matter of speed: they must not stop an answer

    def _write(self, content: bytes) -> None:
        if self._damaged:  # what follows the damage would never be read
            self._rewrite()
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, content)
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
        if size > self._most_bytes:
            self._rewrite()

    def _rewrite(self) -> None:
        """Keep the newer half of the most, in one record."""
        atomic_write(self._file, _record(self.read(self._most_bytes // 8)))
        self._file.chmod(0o600)
        self._damaged = False


def vocabulary_key(n_vocab: int, token_bytes: Callable[[int], bytes]) -> str:
    """The same for models that share a vocabulary (quantisations, fine-tunes): their tokens mean the same."""
    step = max(1, n_vocab // _SAMPLED)
    sample = [token_bytes(token_id) for token_id in range(0, n_vocab, step)]
    return sha256_bytes(repr((n_vocab, sample)).encode())[7:31]


def _record(tokens: Tokens) -> bytes:
    content = tokens.astype("<i4").tobytes()
    return np.array([_MARK, len(tokens), zlib.crc32(content)], "<u4").tobytes() + content


def _records(content: bytes) -> list[Tokens]:
    """The whole records at the beginning of a journal."""
    records, start = [], 0
    while start + 4 * _HEADER <= len(content):
        mark, count, checksum = (int(word) for word in np.frombuffer(content, "<u4", _HEADER, start))
        start += 4 * _HEADER
        body = content[start : start + 4 * count]
        if mark != _MARK or len(body) < 4 * count or zlib.crc32(body) != checksum:
            break
        records.append(np.frombuffer(body, "<i4").astype(np.int32))
        start += 4 * count
    return records
