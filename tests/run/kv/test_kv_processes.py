"""Several processes share a folder, and some are killed in the middle of their work."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kv_states import MIB, files_in, load, save, state_of, tokens_of

from nomoat.run.kv.file import SUFFIX, as_tokens, write_entry
from nomoat.run.kv.store import KVStore

PROGRAM = Path(__file__).with_name("kv_process.py")


def _process(folder: Path, first: int, count: int, cap_bytes: int) -> subprocess.Popen[str]:
    argv = [sys.executable, str(PROGRAM), str(folder), str(first), str(count), str(cap_bytes)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_one_process_saves_another_finds(store: KVStore, folder: Path) -> None:
    writer = _process(folder, 100, 3, 100 * MIB)
    assert writer.wait(60) == 0
    assert load(store, tokens_of(102)) == (100, state_of(tokens_of(102)))


def test_what_another_store_saves_is_found_at_once(store: KVStore, folder: Path) -> None:
    other = KVStore(folder, 100 * MIB)
    for seed in range(20):
        assert store.longest("scope", tokens_of(seed)) is None
        save(other, tokens_of(seed))
        assert store.longest("scope", tokens_of(seed)) is not None


def test_a_file_that_another_process_replaced_is_no_damage(store: KVStore, folder: Path) -> None:
    other = KVStore(folder, 100 * MIB)
    monday, tuesday = b"monday " * 1000, b"tuesday " * 1000  # the same tokens need not give the same bits
    path = save(store, tokens_of(1))
    replaced = write_entry(folder, "scope", as_tokens(tokens_of(1)), memoryview(monday))
    assert replaced.path == path
    assert load(store, tokens_of(1)) == (100, monday)
    assert load(other, tokens_of(1)) == (100, monday)
    write_entry(folder, "scope", as_tokens(tokens_of(1)), memoryview(tuesday))
    assert load(other, tokens_of(1)) == (100, tuesday)


def test_processes_that_share_a_folder_keep_it_sound_and_under_the_cap(folder: Path) -> None:
    cap = 2 * MIB
    processes = [_process(folder, 100 * number, 25, cap) for number in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = KVStore(folder, cap)
    names = [path.name for path in files_in(folder)]
    assert names
    assert not [name for name in names if not name.endswith(SUFFIX)]
    for entry in (tokens_of(100 * number + 24) for number in range(3)):
        loaded = load(store, entry)
        assert loaded is None or loaded == (100, state_of(entry))
    assert not store.notices
    # Each writer may exceed the cap by the file in its hands.
    assert sum(path.stat().st_size for path in files_in(folder)) <= cap + 2 * 310_000


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8])
def test_a_process_killed_while_it_writes_leaves_a_usable_store(folder: Path, milliseconds: int) -> None:
    writer = _process(folder, 0, 0, 100 * MIB)
    assert writer.stdout is not None
    saved = [int(writer.stdout.readline()) for _ in range(3)]
    time.sleep(milliseconds / 1000)  # a save takes some milliseconds: each kill meets it elsewhere
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    store = KVStore(folder, 100 * MIB)
    assert not store.notices
    assert not [path for path in files_in(folder) if path.suffix != SUFFIX]
    for seed in saved:
        assert load(store, tokens_of(seed)) == (100, state_of(tokens_of(seed)))
    save(store, tokens_of(5000))


def test_a_half_written_file_of_a_living_process_is_not_removed(store: KVStore, folder: Path) -> None:
    path = folder / f".abc{SUFFIX}.1234.part"
    with path.open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        KVStore(folder, 100 * MIB)
        assert path.exists()
    KVStore(folder, 100 * MIB)
    assert not path.exists()
