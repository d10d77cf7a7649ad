"""The KV cache on disk gives back what was saved, or nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kv_process import state_of, tokens_of

from limits import files_of_at_most
from nomoat.run import kv_store
from nomoat.run.kv_file import SUFFIX, as_tokens, scope_key, write_entry
from nomoat.run.kv_store import KVStore, clear, default_cap_bytes
from nomoat.run.prefix_tree import common_prefix

MIB = 1 << 20
PROGRAM = Path(__file__).with_name("kv_process.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@pytest.fixture
def store(folder: Path) -> Iterator[KVStore]:
    opened = KVStore(folder, 100 * MIB)
    yield opened
    opened.close()


def _save(store: KVStore, tokens: list[int], scope: str = "scope", n_bytes: int = 300_000) -> Path:
    """Save and wait; the file."""
    store.save(scope, tokens, state_of(tokens, n_bytes))
    assert store.flush(30)
    found = store.longest(scope, tokens)
    assert found is not None
    return found.entry.path


def _load(store: KVStore, tokens: list[int], scope: str = "scope") -> tuple[int, bytes] | None:
    """How many tokens are served, and the bytes; None for a miss or damage."""
    found, got = store.longest(scope, tokens), bytearray()
    if found is None or not store.load(found, got.extend):
        assert not got, "bytes were handed out that did not verify"
        return None
    return found.n_tokens, bytes(got)


def _files(folder: Path) -> set[Path]:
    return set(folder.iterdir())


# -- what is found -------------------------------------------------------------------------------


def test_a_state_survives_a_restart(store: KVStore, folder: Path) -> None:
    tokens = tokens_of(1)
    _save(store, tokens)
    store.close()
    again = KVStore(folder, 100 * MIB)
    assert _load(again, [*tokens, 5, 6]) == (len(tokens), state_of(tokens))
    assert again.stats()["hits"] == 1
    assert again.stats()["hit_tokens"] == len(tokens)


def test_an_entry_serves_a_prompt_that_leaves_it_halfway(store: KVStore) -> None:
    tokens = tokens_of(1)
    _save(store, tokens)
    assert _load(store, [*tokens[:80], 7, 7, 7]) == (80, state_of(tokens))
    assert _load(store, tokens[:40]) is None  # too little to be worth it
    assert store.stats()["misses"] == 1


def test_a_memory_that_cannot_be_cut_back_takes_whole_entries_only(folder: Path) -> None:
    store = KVStore(folder, 100 * MIB, truncates=False)
    tokens = tokens_of(1, 200)
    _save(store, tokens)
    assert store.longest("scope", [*tokens[:150], 7, 7]) is None
    assert store.wants("scope", tokens[:150])
    assert _load(store, [*tokens, 7]) == (200, state_of(tokens))


def test_states_of_another_scope_are_not_given_out(store: KVStore) -> None:
    scope = scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 1}, "b9000")
    others = [
        scope_key("sha256:c", [("sha256:b", 0.5)], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.6)], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 8}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 1}, "b9001"),
    ]
    _save(store, tokens_of(1), scope)
    assert _load(store, tokens_of(1), scope) is not None
    assert [_load(store, tokens_of(1), other) for other in others] == [None] * 5
    assert scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 1}, "b9000") == scope


# Conversations from a few long turns: they share beginnings as real ones do.
_TURNS = st.lists(st.integers(0, 2), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_TURNS, min_size=1, max_size=6), _TURNS)
def test_whatever_was_saved_serves_a_prompt_nearly_in_full(
    tmp_path_factory: pytest.TempPathFactory, saved: list[list[int]], wanted: list[int]
) -> None:
    store = KVStore(tmp_path_factory.mktemp("kv"), 100 * MIB)
    lists = [[token for turn in turns for token in tokens_of(turn)] for turns in [*saved, wanted]]
    prompt = lists.pop()
    for tokens in lists:
        store.save("scope", tokens, state_of(tokens, 1000))
        store.flush(30)
    best = max(common_prefix(tokens, prompt) for tokens in lists)
    found = store.longest("scope", prompt)
    assert (found.n_tokens if found else 0) == best
    store.close()


# -- what is kept --------------------------------------------------------------------------------


def test_a_conversation_that_grows_keeps_one_file(store: KVStore, folder: Path) -> None:
    tokens: list[int] = []
    for turn in range(5):
        tokens = tokens[:-3] + tokens_of(turn)  # the last tokens of an answer come back differently
        _save(store, tokens)
    assert len(_files(folder)) == 1
    assert _load(store, tokens) == (len(tokens), state_of(tokens))


def test_what_is_covered_is_not_wanted_and_not_written(store: KVStore, folder: Path) -> None:
    tokens = tokens_of(1, 300)
    path = _save(store, tokens)
    for covered in (tokens, tokens[:200], [*tokens, 1, 2, 3]):
        assert not store.wants("scope", covered)
        store.save("scope", covered, state_of(covered))
    assert store.wants("scope", tokens + tokens_of(2))
    assert store.flush(30)
    assert _files(folder) == {path}
    assert store.stats()["saved"] == 1


def test_what_was_used_longest_ago_makes_room(folder: Path) -> None:
    store = KVStore(folder, 1_000_000)
    first, second, third, fourth = (tokens_of(seed) for seed in range(4))
    for age, tokens in enumerate((first, second, third)):
        os.utime(_save(store, tokens), ns=(age, age))
    assert _load(store, first) is not None  # used: now the youngest
    _save(store, fourth)
    assert [_load(store, tokens) is not None for tokens in (first, second, third, fourth)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert sum(path.stat().st_size for path in _files(folder)) <= 1_000_000
    assert store.stats()["evicted"] == 1


def test_a_state_larger_than_the_cap_is_not_kept(folder: Path) -> None:
    store = KVStore(folder, 200_000)
    assert not store.wants("scope", tokens_of(1), 300_000)
    store.save("scope", tokens_of(1), state_of(tokens_of(1)))
    assert store.stats()["dropped"] == 1
    assert not _files(folder)


def test_a_full_queue_drops_states_and_never_waits(store: KVStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hold, real = threading.Event(), kv_store.write_entry
    monkeypatch.setattr(kv_store, "write_entry", lambda *args: (hold.wait(30), real(*args))[1])
    n_bytes = 100 * MIB
    for seed in range(4):
        store.save("scope", tokens_of(seed), bytes(n_bytes) if seed < 2 else bytes(n_bytes // 2 + 7 * MIB))
    assert not store.wants("scope", tokens_of(9), n_bytes)
    assert store.stats()["dropped"] == 2
    assert not store.wants("scope", tokens_of(0))  # on its way
    hold.set()
    assert store.flush(60)


def test_a_full_disk_drops_the_state_with_a_notice(store: KVStore, folder: Path) -> None:
    path = _save(store, tokens_of(1))
    with files_of_at_most(400_000):
        store.save("scope", tokens_of(2), state_of(tokens_of(2), 500_000))
        assert store.flush(30)
    assert _files(folder) == {path}
    assert store.stats()["dropped"] == 1
    assert "no room left" in store.notices[-1]
    assert _load(store, tokens_of(1)) is not None


def test_some_room_on_the_disk_is_left_to_others(folder: Path) -> None:
    store = KVStore(folder, 100 * MIB, reserve_bytes=1 << 60)
    store.save("scope", tokens_of(1), state_of(tokens_of(1)))
    assert store.flush(30)
    assert not _files(folder)
    assert "too little room" in store.notices[-1]


def test_the_cap_is_a_twentieth_of_the_free_disk_and_at_most_four_gibibytes() -> None:
    assert default_cap_bytes(20 << 30) == 1 << 30
    assert default_cap_bytes(1 << 40) == 4 << 30
    assert kv_store.free_bytes(Path("/absent/folder")) > 0


# -- damage --------------------------------------------------------------------------------------


def _truncate(content: bytes) -> bytes:
    return content[:-1]


def _flip(position: int) -> object:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position] ^= 1
        return bytes(changed)

    return flip


_DAMAGE = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:20],
    "cut in the tokens": lambda content: content[:100],
    "cut at the end": _truncate,
    "longer": lambda content: content + b"x",
    "foreign": lambda content: b"GGUF" + content,
    "flipped length": _flip(12),
    "flipped token": _flip(80),
    "flipped size of the data": _flip(25),
    "flipped data": _flip(-1000),
    "first byte of the data": _flip(4096),
}


@pytest.mark.parametrize("kind", _DAMAGE)
@pytest.mark.parametrize("when", ["while open", "before opening"])
def test_a_damaged_file_is_dropped_and_the_others_survive(
    store: KVStore, folder: Path, kind: str, when: str
) -> None:
    good, bad = _save(store, tokens_of(1)), _save(store, tokens_of(2))
    bad.write_bytes(_DAMAGE[kind](bad.read_bytes()))  # type: ignore[operator]
    reader = store if when == "while open" else KVStore(folder, 100 * MIB)
    assert _load(reader, tokens_of(2)) is None
    assert _files(folder) == {good}
    assert reader.stats()["damaged"] == 1
    assert bad.name in reader.notices[-1]
    assert _load(reader, tokens_of(1)) == (100, state_of(tokens_of(1)))
    _save(reader, tokens_of(2))
    assert _load(reader, tokens_of(2)) == (100, state_of(tokens_of(2)))


def test_a_file_renamed_to_another_s_name_is_dropped(store: KVStore, folder: Path) -> None:
    one, two = _save(store, tokens_of(1)), _save(store, tokens_of(2))
    one.rename(two)
    again = KVStore(folder, 100 * MIB)
    assert _load(again, tokens_of(1)) is None
    assert not _files(folder)


def test_files_of_others_are_left_alone(store: KVStore, folder: Path) -> None:
    path = _save(store, tokens_of(1))
    newer, note = folder / f"newer{SUFFIX}", folder / "README"
    newer.write_bytes(b"NOMOATKV" + b"\2" + bytes(100))
    note.write_text("mine")
    (folder / f"folder{SUFFIX}").mkdir()
    again = KVStore(folder, 100 * MIB)
    assert _load(again, tokens_of(1)) is not None
    assert _files(folder) == {path, newer, note, folder / f"folder{SUFFIX}"}
    assert again.stats()["entries"] == 1


def test_a_bad_sector_is_damage_and_not_the_end_of_the_process(
    store: KVStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(store, tokens_of(1))

    def fail(*args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    assert _load(store, tokens_of(1)) is None
    assert not _files(folder)
    assert os.strerror(errno.EIO) in store.notices[-1]


def test_a_file_that_is_gone_is_no_damage(store: KVStore) -> None:
    path = _save(store, tokens_of(1))
    found = store.longest("scope", tokens_of(1))
    path.unlink()
    assert found is not None
    assert not store.load(found, bytes)  # type: ignore[arg-type]
    assert store.stats()["damaged"] == 0
    assert store.longest("scope", tokens_of(1)) is None


def test_a_folder_that_cannot_be_made_leaves_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file")
    store = KVStore(tmp_path / "kv", 100 * MIB)
    assert "cannot be used" in store.notices[0]
    store.save("scope", tokens_of(1), state_of(tokens_of(1)))
    assert store.flush(30)
    assert store.longest("scope", tokens_of(1)) is None
    assert store.stats()["dropped"] == 1


# -- privacy -------------------------------------------------------------------------------------


def test_only_the_owner_may_look_into_the_folder(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    store = KVStore(folder, 100 * MIB)
    path = _save(store, tokens_of(1))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_clearing_the_folder_of_a_running_store_leaves_it_working(store: KVStore, folder: Path) -> None:
    size = _save(store, tokens_of(1)).stat().st_size
    assert clear(folder) == size
    assert not _files(folder)
    folder.rmdir()
    assert _load(store, tokens_of(1)) is None
    _save(store, tokens_of(1))
    assert _load(store, tokens_of(1)) is not None


# -- several processes ---------------------------------------------------------------------------


def _process(folder: Path, first: int, count: int, cap_bytes: int) -> subprocess.Popen[str]:
    argv = [sys.executable, str(PROGRAM), str(folder), str(first), str(count), str(cap_bytes)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_one_process_saves_another_finds(store: KVStore, folder: Path) -> None:
    writer = _process(folder, 100, 3, 100 * MIB)
    assert writer.wait(60) == 0
    assert _load(store, tokens_of(102)) == (100, state_of(tokens_of(102)))


def test_what_another_store_saves_is_found_at_once(store: KVStore, folder: Path) -> None:
    other = KVStore(folder, 100 * MIB)
    for seed in range(20):
        assert store.longest("scope", tokens_of(seed)) is None
        _save(other, tokens_of(seed))
        assert store.longest("scope", tokens_of(seed)) is not None


def test_a_file_that_another_process_replaced_is_no_damage(store: KVStore, folder: Path) -> None:
    other = KVStore(folder, 100 * MIB)
    monday, tuesday = b"monday " * 1000, b"tuesday " * 1000  # the same tokens need not give the same bits
    path = _save(store, tokens_of(1))
    replaced = write_entry(folder, "scope", as_tokens(tokens_of(1)), memoryview(monday))
    assert replaced.path == path
    assert _load(store, tokens_of(1)) == (100, monday)
    assert _load(other, tokens_of(1)) == (100, monday)
    write_entry(folder, "scope", as_tokens(tokens_of(1)), memoryview(tuesday))
    assert _load(other, tokens_of(1)) == (100, tuesday)


def test_processes_that_share_a_folder_keep_it_sound_and_under_the_cap(folder: Path) -> None:
    cap = 2 * MIB
    processes = [_process(folder, 100 * number, 25, cap) for number in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = KVStore(folder, cap)
    names = [path.name for path in _files(folder)]
    assert names
    assert not [name for name in names if not name.endswith(SUFFIX)]
    for entry in (tokens_of(100 * number + 24) for number in range(3)):
        loaded = _load(store, entry)
        assert loaded is None or loaded == (100, state_of(entry))
    assert not store.notices
    # Each writer may exceed the cap by the file in its hands.
    assert sum(path.stat().st_size for path in _files(folder)) <= cap + 2 * 310_000


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_a_process_killed_while_it_writes_leaves_a_usable_store(folder: Path, after: int) -> None:
    writer = _process(folder, 0, 0, 100 * MIB)
    assert writer.stdout is not None
    saved = [int(writer.stdout.readline()) for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    store = KVStore(folder, 100 * MIB)
    assert not store.notices
    assert not [path for path in _files(folder) if path.suffix != SUFFIX]
    for seed in saved:
        assert _load(store, tokens_of(seed)) == (100, state_of(tokens_of(seed)))
    _save(store, tokens_of(5000))


def test_a_half_written_file_of_a_living_process_is_not_removed(store: KVStore, folder: Path) -> None:
    path = folder / f".abc{SUFFIX}.1234.part"
    with path.open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        KVStore(folder, 100 * MIB)
        assert path.exists()
    KVStore(folder, 100 * MIB)
    assert not path.exists()
