"""The KV cache on disk: states of evaluated prompts that survive a restart. See docs/explanation/kv-cache.md.

The caller hands in the state of a sequence as bytes and gets it back for a prompt that begins alike. What the bytes
mean is llama.cpp's affair. Nothing here ever fails a request: a file that is damaged is dropped, a state that cannot
be written is not kept, and `notices` says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nomoat.base.errors import BadFileError, NomoatError
from nomoat.run.kv.file import SUFFIX, Entry, Tokens, as_tokens, is_whole, map_data, read_entry, write_entry
from nomoat.run.kv.index import PrefixIndex, common_tokens
from nomoat.run.kv.writer import BackgroundWriter

__all__ = ["KVStore", "Stored", "clear", "default_cap_bytes", "free_bytes"]

_GIB = 1 << 30
_LEAST_TOKENS = 64  # fewer are evaluated about as fast as they are read
_MOST_WAITING_BYTES = 256 << 20
_RESERVE_BYTES = 512 << 20  # of the disk, left to everybody else
_MOST_NOTICES = 100
_CLOCK_NS = 50_000_000  # two changes of a folder within this may bear the same time


class Stored(NamedTuple):
    """An entry that can save work for a prompt."""

    entry: Entry
    n_tokens: int
    """Tokens of the prompt that it serves; the state itself holds `len(entry.tokens)` and is cut back."""


class _Save(NamedTuple):
    scope: str
    tokens: Tokens
    data: memoryview


def default_cap_bytes(free: int) -> int:
    """How large the cache may grow on a disk with `free` bytes: a twentieth, at most 4 GiB."""
    return min(4 * _GIB, free // 20)


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the disk of `folder`, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def clear(folder: Path) -> int:
    """Delete every stored state in `folder`; returns the bytes that are free again. Running engines may go on."""
    freed = 0
    for path in [*folder.glob(f"*{SUFFIX}"), *folder.glob(f".*{SUFFIX}.*.part")]:
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed


class KVStore:
    """The entries of one folder, which other processes may use at the same time. Safe for several threads."""

    def __init__(
        self, folder: Path, cap_bytes: int, *, cuttable_tokens: float = math.inf, least_tokens: int = _LEAST_TOKENS,
        reserve_bytes: int = _RESERVE_BYTES,
    ) -> None:  # fmt: skip
        """Open `folder`, or make it. Never fails: where it cannot be used the store stays empty and says why.

        `cap_bytes` bounds all files together. An entry of more than `cuttable_tokens`, as `Model` has it (recurrent
        models, sliding windows), serves only prompts that begin with all of it. `least_tokens` is the smallest gain
        worth a file, `reserve_bytes` what is left free on the disk.
        """
        self.notices: deque[str] = deque(maxlen=_MOST_NOTICES)
        self._folder, self._cap_bytes, self._cuttable_tokens = folder, cap_bytes, cuttable_tokens
        self._least_tokens, self._reserve_bytes = max(1, least_tokens), reserve_bytes
        self._scopes: dict[str, PrefixIndex] = {}
        self._files: dict[str, Entry | None] = {}  # by name; None: a file of another version
        self._seen_ns: int | None = None  # the folder's time when it was last read
        self._counts = dict.fromkeys(
            ("hits", "misses", "hit_tokens", "saved", "dropped", "damaged", "evicted"), 0
        )
        self._lock = threading.RLock()
        self._writer = BackgroundWriter(self._write, _MOST_WAITING_BYTES)
        try:
            self._open_folder()
            self._remove_abandoned()
        except OSError as error:
            self._note(f"{folder}: cannot be used ({error.strerror}); prompts are not kept on disk")
        self._refresh()

    def longest(self, scope: str, tokens: Sequence[int], most_tokens: int | None = None) -> Stored | None:
        """The entry that saves most of evaluating `tokens`; None where none saves `least_tokens`.

        `most_tokens` is the room in the memory: a state is restored in full before it is cut back.
        """
        wanted = as_tokens(tokens)
        with self._lock:
            self._refresh()
            index = self._scopes.get(scope)
            match = index.longest(wanted, self._cuttable_tokens, most_tokens) if index else None
            if match is None or match.n_tokens < self._least_tokens:
                self._counts["misses"] += 1
                return None
        return Stored(match.entry, match.n_tokens)

    def load(self, stored: Stored, into: Callable[[memoryview], None]) -> bool:
        """Hand the state to `into`, which must not keep the view. False: the entry is gone or was damaged.

        `into` never sees a byte before all of them are verified; errors that it raises pass through.
        """
        path, data = stored.entry.path, None
        try:
            data = self._verified(path)
        except BadFileError as error:
            self._drop(path, error.problem)
        except FileNotFoundError:
            with self._lock:
                self._forget(path)
        except ValueError as error:  # cut short between two looks at it
            self._drop(path, str(error))
        except OSError as error:
            if error.errno == errno.EIO:
                self._drop(path, "a place on the disk cannot be read")
            else:
                self._note(f"{path}: cannot be read now ({error.strerror})")
        if data is None:
            return False
        into(data)
        self._touch(path)
        with self._lock:
            self._counts["hits"] += 1
            self._counts["hit_tokens"] += stored.n_tokens
        return True

    def wants(self, scope: str, tokens: Sequence[int], n_bytes: int = 0) -> bool:
        """Whether `save` would keep this state of `n_bytes`: ask before copying it out of llama.cpp."""
        wanted = as_tokens(tokens)
        if n_bytes > self._cap_bytes or not self._cap_bytes or not self._writer.has_room(n_bytes):
            return False
        with self._lock:
            return not self._is_covered(scope, wanted)

    def save(self, scope: str, tokens: Sequence[int], data: memoryview | bytes | bytearray) -> None:
        """Write a state in the background. `data` belongs to the store from now on.

        Dropped without an error where it is not wanted, where the disk is full, or where too much waits already.
        """
        wanted, view = as_tokens(tokens).copy(), memoryview(data).cast("B")
        with self._lock:
            if self._is_covered(scope, wanted):
                return
            if view.nbytes > self._cap_bytes or not self._writer.offer(
                _Save(scope, wanted, view), view.nbytes
            ):
                self._counts["dropped"] += 1

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything saved is on disk; False when that took too long."""
        return self._writer.flush(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Write what waits, within the time given, and save nothing more."""
        self._writer.close(timeout_seconds)

    def stats(self) -> dict[str, int]:
        """Entries and bytes in the folder, and what has happened since this store was opened."""
        with self._lock:
            self._refresh()
            entries = [entry for entry in self._files.values() if entry is not None]
            size = sum(entry.file_bytes for entry in entries)
            return {"entries": len(entries), "bytes": size, **self._counts}

    # -- the folder -------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        """Make the folder private: prompts can be read out of the states, and are there as token ids."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_mode & 0o077:
            self._folder.chmod(0o700)

    def _remove_abandoned(self) -> None:
        """Remove half-written files of processes that have died: nobody holds their lock."""
        for path in self._folder.glob(f".*{SUFFIX}.*.part"):
            with contextlib.suppress(OSError), path.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _refresh(self) -> None:
        """Follow what other processes did to the folder."""
        now = time.time_ns()
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed == self._seen_ns:
                return
            present = {name for name in os.listdir(self._folder) if name.endswith(SUFFIX)}
        except OSError:
            changed, present = 0, set()
        for name in self._files.keys() - present:
            self._forget(self._folder / name)
        for name in present - self._files.keys():
            self._read(self._folder / name)
        self._seen_ns = changed if now - changed > _CLOCK_NS else None

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as handle:
                self._remember(path, read_entry(handle, path))
        except BadFileError as error:
            self._drop(path, error.problem)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._files[path.name] = None  # not tried again
            self._note(f"{path}: cannot be read ({error.strerror})")

    @staticmethod
    def _verified(path: Path) -> memoryview | None:
        # Its front is read anew: another process may have replaced the file by its own state of the same tokens.
        with path.open("rb") as handle:
            entry = read_entry(handle, path)
            if entry is None:
                return None
            if not is_whole(handle, entry):
                raise BadFileError(path, "data", "the checksum of the data does not match")
            return map_data(handle, entry)

    @contextlib.contextmanager
    def _sole_remover(self) -> Iterator[None]:
        """Hold the folder against other processes: two that make room at once would remove twice as much."""
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    # -- what is known of it ----------------------------------------------------------------------

    def _remember(self, path: Path, entry: Entry | None) -> None:
        self._files[path.name] = entry
        if entry is not None:
            self._scopes.setdefault(entry.scope, PrefixIndex()).add(entry)

    def _forget(self, path: Path) -> None:
        entry = self._files.pop(path.name, None)
        if entry is not None:
            self._scopes[entry.scope].remove(entry)

    def _is_covered(self, scope: str, tokens: Tokens) -> bool:
        """Whether storing `tokens` would gain less than `least_tokens` over what is there or on its way."""
        most = len(tokens) - self._least_tokens
        index = self._scopes.get(scope)
        match = index.longest(tokens, self._cuttable_tokens) if index else None
        if match is not None and match.n_tokens > most:
            self._touch(match.entry.path)  # a conversation that lives in memory is in use, too
            return True
        common = [
            (job, common_tokens(job.tokens, tokens)) for job in self._writer.waiting() if job.scope == scope
        ]
        return most < 0 or any(
            n_tokens > most
            for job, n_tokens in common
            if n_tokens == len(job.tokens) or len(job.tokens) <= self._cuttable_tokens
        )

    # -- writing, in the background ----------------------------------------------------------------

    def _write(self, job: _Save) -> None:
        try:
            self._open_folder()
            needed, old = job.data.nbytes + job.tokens.nbytes, self._superseded(job)
            if not self._make_room(needed, old):
                raise NomoatError(f"{self._folder}: too little room for {needed >> 20} MiB more")
            entry = write_entry(self._folder, job.scope, job.tokens, job.data)
        except (NomoatError, OSError, MemoryError) as error:
            self._note(f"a prompt was not kept on disk: {error}")
            with self._lock:
                self._counts["dropped"] += 1
            return
        with self._lock:
            self._counts["saved"] += 1
            self._forget(entry.path)
            self._remember(entry.path, entry)
        for one in old:
            self._remove(one.path)

    def _superseded(self, job: _Save) -> list[Entry]:
        """The entries that this state will stand in for."""
        with self._lock:
            self._refresh()
            index = self._scopes.setdefault(job.scope, PrefixIndex())
            known = index.longest(job.tokens, cuttable_tokens=0)
            if known is not None and known.n_tokens == len(job.tokens):
                return []  # its file will be replaced
            entry = Entry(Path(), job.scope, job.tokens, 0, job.data.nbytes, b"")
            index.add(entry)
            old = index.superseded_by(entry)
            index.remove(entry)
        # What can be cut back serves more prompts than a longer state that cannot.
        limit = self._cuttable_tokens
        return [one for one in old if len(job.tokens) <= limit or len(one.tokens) > limit]

    def _make_room(self, needed: int, going: list[Entry]) -> bool:
        """Remove what was used longest ago until `needed` bytes fit under the cap and beside the reserve.

        What is `going` goes only when the new state is written, and does not count.
        """
        names = {entry.path.name for entry in going}
        with self._sole_remover():
            files = sorted(file for file in self._sizes_by_use() if file[2].name not in names)
            held = sum(size for _, size, _ in files)
            room = min(self._cap_bytes, held + free_bytes(self._folder) - self._reserve_bytes)
            for _, size, path in files if needed <= room else ():
                if held + needed <= room:
                    break
                self._remove(path)
                held -= size
                with self._lock:
                    self._counts["evicted"] += 1
        return held + needed <= room

    def _sizes_by_use(self) -> Iterator[tuple[int, int, Path]]:
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime_ns, status.st_size, path

    def _touch(self, path: Path) -> None:
        """The file's time of change is that of its last use: the content never changes."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def _drop(self, path: Path, problem: str) -> None:
        self._remove(path)
        self._note(f"{path}: {problem}; removed")
        with self._lock:
            self._counts["damaged"] += 1

    def _remove(self, path: Path) -> None:
        with self._lock:
            self._forget(path)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _note(self, text: str) -> None:
        self.notices.append(text)
