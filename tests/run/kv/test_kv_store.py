"""The KV cache on disk gives back what was saved, or nothing."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kv_states import MIB, files_in, load, save, state_of, tokens_of

from limits import files_of_at_most
from nomoat.run.kv import store as kv_store
from nomoat.run.kv.file import SUFFIX, scope_key
from nomoat.run.kv.prefix_tree import common_prefix
from nomoat.run.kv.store import KVStore, clear, default_cap_bytes

# -- what is found -------------------------------------------------------------------------------


def test_a_state_survives_a_restart(store: KVStore, folder: Path) -> None:
    tokens = tokens_of(1)
    save(store, tokens)
    store.close()
    again = KVStore(folder, 100 * MIB)
    assert load(again, [*tokens, 5, 6]) == (len(tokens), state_of(tokens))
    assert again.stats()["hits"] == 1
    assert again.stats()["hit_tokens"] == len(tokens)


def test_an_entry_serves_a_prompt_that_leaves_it_halfway(store: KVStore) -> None:
    tokens = tokens_of(1)
    save(store, tokens)
    assert load(store, [*tokens[:80], 7, 7, 7]) == (80, state_of(tokens))
    assert load(store, tokens[:40]) is None  # too little to be worth it
    assert store.longest("scope", tokens, most_tokens=99) is None
    assert store.stats()["misses"] == 2


def test_a_memory_that_cannot_be_cut_back_takes_whole_entries_only(folder: Path) -> None:
    store = KVStore(folder, 100 * MIB, cuttable_tokens=0)
    tokens = tokens_of(1, 200)
    save(store, tokens)
    assert store.longest("scope", [*tokens[:150], 7, 7]) is None
    assert store.wants("scope", tokens[:150])
    assert load(store, [*tokens, 7]) == (200, state_of(tokens))


def test_states_of_another_scope_are_not_given_out(store: KVStore) -> None:
    scope = scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 1}, "b9000")
    others = [
        scope_key("sha256:c", [("sha256:b", 0.5)], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.6)], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [], {"type_k": 1}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 8}, "b9000"),
        scope_key("sha256:a", [("sha256:b", 0.5)], {"type_k": 1}, "b9001"),
    ]
    save(store, tokens_of(1), scope)
    assert load(store, tokens_of(1), scope) is not None
    assert [load(store, tokens_of(1), other) for other in others] == [None] * 5
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
        save(store, tokens)
    assert len(files_in(folder)) == 1
    assert load(store, tokens) == (len(tokens), state_of(tokens))


def test_what_is_covered_is_not_wanted_and_not_written(store: KVStore, folder: Path) -> None:
    tokens = tokens_of(1, 300)
    path = save(store, tokens)
    for covered in (tokens, tokens[:200], [*tokens, 1, 2, 3]):
        assert not store.wants("scope", covered)
        store.save("scope", covered, state_of(covered))
    assert store.wants("scope", tokens + tokens_of(2))
    assert store.flush(30)
    assert files_in(folder) == {path}
    assert store.stats()["saved"] == 1


def test_what_was_used_longest_ago_makes_room(folder: Path) -> None:
    store = KVStore(folder, 1_000_000)
    first, second, third, fourth = (tokens_of(seed) for seed in range(4))
    for age, tokens in enumerate((first, second, third)):
        os.utime(save(store, tokens), ns=(age, age))
    assert load(store, first) is not None  # used: now the youngest
    save(store, fourth)
    assert [load(store, tokens) is not None for tokens in (first, second, third, fourth)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert sum(path.stat().st_size for path in files_in(folder)) <= 1_000_000
    assert store.stats()["evicted"] == 1


def test_a_conversation_that_grows_takes_the_room_of_its_own_earlier_file(folder: Path) -> None:
    store = KVStore(folder, 700_000)
    save(store, tokens_of(1))
    save(store, tokens_of(2))
    save(store, tokens_of(2) + tokens_of(3))
    assert load(store, tokens_of(1)) is not None
    assert store.stats()["evicted"] == 0
    assert len(files_in(folder)) == 2


def test_a_state_larger_than_the_cap_is_not_kept(folder: Path) -> None:
    store = KVStore(folder, 200_000)
    assert not store.wants("scope", tokens_of(1), 300_000)
    store.save("scope", tokens_of(1), state_of(tokens_of(1)))
    assert store.stats()["dropped"] == 1
    assert not files_in(folder)


def test_a_full_queue_drops_states_and_never_waits(store: KVStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hold, real = threading.Event(), kv_store.write_entry
    monkeypatch.setattr(kv_store, "write_entry", lambda *args: (hold.wait(30), real(*args))[1])
    n_bytes = (
        90 * MIB
    )  # fits under the cap with its tokens, so that the first one is being written all the while
    for seed in range(4):
        store.save("scope", tokens_of(seed), bytes(n_bytes if seed < 2 else 80 * MIB))
    assert not store.wants("scope", tokens_of(9), n_bytes)
    assert store.stats()["dropped"] == 2
    assert not store.wants("scope", tokens_of(0))  # on its way
    hold.set()
    assert store.flush(60)


def test_a_full_disk_drops_the_state_with_a_notice(store: KVStore, folder: Path) -> None:
    path = save(store, tokens_of(1))
    with files_of_at_most(400_000):
        store.save("scope", tokens_of(2), state_of(tokens_of(2), 500_000))
        assert store.flush(30)
    assert files_in(folder) == {path}
    assert store.stats()["dropped"] == 1
    assert "no room left" in store.notices[-1]
    assert load(store, tokens_of(1)) is not None


def test_some_room_on_the_disk_is_left_to_others(folder: Path) -> None:
    store = KVStore(folder, 100 * MIB, reserve_bytes=1 << 60)
    store.save("scope", tokens_of(1), state_of(tokens_of(1)))
    assert store.flush(30)
    assert not files_in(folder)
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
    good, bad = save(store, tokens_of(1)), save(store, tokens_of(2))
    bad.write_bytes(_DAMAGE[kind](bad.read_bytes()))  # type: ignore[operator]
    reader = store if when == "while open" else KVStore(folder, 100 * MIB)
    assert load(reader, tokens_of(2)) is None
    assert files_in(folder) == {good}
    assert reader.stats()["damaged"] == 1
    assert bad.name in reader.notices[-1]
    assert load(reader, tokens_of(1)) == (100, state_of(tokens_of(1)))
    save(reader, tokens_of(2))
    assert load(reader, tokens_of(2)) == (100, state_of(tokens_of(2)))


def test_a_file_renamed_to_another_s_name_is_dropped(store: KVStore, folder: Path) -> None:
    one, two = save(store, tokens_of(1)), save(store, tokens_of(2))
    one.rename(two)
    again = KVStore(folder, 100 * MIB)
    assert load(again, tokens_of(1)) is None
    assert not files_in(folder)


def test_files_of_others_are_left_alone(store: KVStore, folder: Path) -> None:
    path = save(store, tokens_of(1))
    newer, note = folder / f"newer{SUFFIX}", folder / "README"
    newer.write_bytes(b"NOMOATKV" + b"\2" + bytes(100))
    note.write_text("mine")
    (folder / f"folder{SUFFIX}").mkdir()
    again = KVStore(folder, 100 * MIB)
    assert load(again, tokens_of(1)) is not None
    assert files_in(folder) == {path, newer, note, folder / f"folder{SUFFIX}"}
    assert again.stats()["entries"] == 1


@pytest.mark.parametrize(("code", "kept"), [(errno.EIO, False), (errno.ENOMEM, True)])
def test_a_bad_sector_is_damage_and_a_shortage_is_not(
    store: KVStore, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, kept: bool
) -> None:
    save(store, tokens_of(1))

    def fail(*args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", fail)
    assert load(store, tokens_of(1)) is None
    assert "cannot be read" in store.notices[-1]
    assert len(files_in(folder)) == kept


def test_a_file_that_is_gone_is_no_damage(store: KVStore) -> None:
    path = save(store, tokens_of(1))
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
    path = save(store, tokens_of(1))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_clearing_the_folder_of_a_running_store_leaves_it_working(store: KVStore, folder: Path) -> None:
    size = save(store, tokens_of(1)).stat().st_size
    assert clear(folder) == size
    assert not files_in(folder)
    folder.rmdir()
    assert load(store, tokens_of(1)) is None
    save(store, tokens_of(1))
    assert load(store, tokens_of(1)) is not None
