"""Trust at first use: the second key of an owner is a question, not an answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomoat.base.errors import BadFileError
from nomoat.share.trust.keys import new_key
from nomoat.share.trust.known_keys import ChangedKeyError, KnownKeys


def test_the_first_key_is_taken_and_then_expected(tmp_path: Path) -> None:
    known, key, other = KnownKeys(tmp_path), new_key().public, new_key().public
    assert known.get("hub.local", "me") is None
    assert known.meet("hub.local", "Me", key) is True
    assert KnownKeys(tmp_path).meet("HUB.local", "me", key) is False
    with pytest.raises(ChangedKeyError) as refused:
        known.meet("hub.local", "me", other)
    assert other.key_id[:16] in refused.value.message and "--trust-new-key" in refused.value.hint
    assert known.get("hub.local", "me") == key


def test_hubs_and_owners_are_kept_apart(tmp_path: Path) -> None:
    known = KnownKeys(tmp_path)
    for hub, owner in (("hub.local", "me"), ("hub.local:8080", "me"), ("hub.local", "you")):
        assert known.meet(hub, owner, new_key().public)


def test_a_new_key_is_accepted_expressly(tmp_path: Path) -> None:
    known, first, second = KnownKeys(tmp_path), new_key().public, new_key("p256").public
    known.meet("hub", "me", first)
    known.accept("hub", "me", second)
    assert known.get("hub", "me") == second and not known.meet("hub", "me", second)
    assert first.key_id in known.path.read_text()
    known.forget("hub", "me")
    assert known.get("hub", "me") is None


def test_many_pulls_at_once_forget_nobody(tmp_path: Path) -> None:
    keys = {f"owner{number}": new_key().public for number in range(24)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda owner: KnownKeys(tmp_path).meet("hub", owner, keys[owner]), keys))
    assert {owner: KnownKeys(tmp_path).get("hub", owner) for owner in keys} == keys


def test_a_damaged_list_does_not_count_as_an_empty_one(tmp_path: Path) -> None:
    known = KnownKeys(tmp_path)
    known.meet("hub", "me", new_key().public)
    known.path.write_text(known.path.read_text()[:-20])
    with pytest.raises(BadFileError):
        known.meet("hub", "me", new_key().public)
