"""What a hub that lies can do to one that follows it: nothing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_hub import SmallHub, running

from nomoat.base.errors import NotFoundError
from nomoat.share.checks.inspect import inspect
from nomoat.share.client.connection import Connection
from nomoat.share.client.references import parse_hub
from nomoat.share.errors import ForbiddenError, RefusedError
from nomoat.share.mirroring import Mirror
from nomoat.share.names import RepoName
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.trust.keys import new_key

NAME = RepoName.parse("model", "eve/things")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(RegistryConfig(tmp_path / "mirror"))
    registry.inspection = inspect
    registry.accounts.add("root", is_admin=True)
    registry.accounts.add("me")
    yield registry
    registry.close()


def _follow(registry: Registry, *contents: Any) -> Any:
    """Follow a hub that answers the question for its takedowns with these, one after the other."""
    answers = list(contents)

    def before(handler: Any) -> bool:
        if not handler.path.startswith("/api/nomoat/recalls"):
            return False
        handler.json(answers.pop(0) if answers else {"recalls": []})
        return True

    with running(SmallHub(before=before)) as origin, Connection(parse_hub(origin.url)) as connection:
        # As one hub to the mirror, whatever port it listens at.
        mirror = Mirror(registry, connection, registry.accounts.identity("root"))
        mirror._host = "origin.example"
        return mirror.follow_recalls()


def _entry(seq: Any) -> dict[str, Any]:
    return {"seq": seq, "action": "takedown", "target": "model:me/x", "bundle": {}}


@pytest.mark.parametrize("entries", [["x"], [None], [_entry("one")], [_entry(-3)], [{}]])
def test_a_list_of_takedowns_that_is_none_is_refused(registry: Registry, entries: list[Any]) -> None:
    with pytest.raises(RefusedError):
        _follow(registry, {"recalls": entries, "public_key": new_key().public.pem})


def test_a_list_that_never_ends_is_refused(registry: Registry) -> None:
    page = {"recalls": [_entry(5)], "public_key": new_key().public.pem}
    with pytest.raises(RefusedError, match="no order"):
        _follow(registry, page, page)


def test_another_key_than_at_first_ends_it(registry: Registry) -> None:
    first, second = new_key().public.pem, new_key().public.pem
    done = _follow(registry, {"recalls": [_entry(1)], "public_key": first})
    assert [target for target, _ in done.skipped] == ["model:me/x"] and done.taken_down == ()
    with pytest.raises(RefusedError, match="another key"):
        _follow(registry, {"recalls": [_entry(2)], "public_key": second})


def test_harmful_files_and_other_bytes_are_not_taken_in(registry: Registry) -> None:
    harmful = pickle.dumps({"weights": [0.5] * 30_000}, protocol=2)
    origin = SmallHub({str(NAME): {"weights.bin": harmful, "README.md": b"# Things\n"}})
    with running(origin), Connection(parse_hub(origin.url)) as connection:
        mirror = Mirror(registry, connection, registry.accounts.identity("root"))
        with pytest.raises(RefusedError, match="pickle"):
            mirror.refresh(NAME)
        origin.repos[str(NAME)] = {"notes.txt": b"some notes\n" * 20_000}
        origin.announced = {"notes.txt": {"lfs": {"oid": "0" * 64, "size": 220_000, "pointerSize": 1}}}
        with pytest.raises(RefusedError):
            mirror.refresh(NAME)
        with pytest.raises(NotFoundError):
            registry.repos.get(registry.accounts.identity("root"), NAME)
        assert registry.accounts.find("eve") is None, "nothing of it is to be seen"
        origin.announced = {}
        assert mirror.refresh(NAME).outcome == "mirrored"


def test_a_secret_of_this_hub_is_not_had_by_its_digest(registry: Registry) -> None:
    """The origin announces the digest of a file that somebody keeps private here, and does not send it."""
    secret = registry.blobs.add(b"my secret diary\n" * 10_000)
    origin = SmallHub({str(NAME): {"diary.txt": b"x" * secret.size_bytes}})
    oid = secret.digest.removeprefix("sha256:")
    origin.announced = {"diary.txt": {"lfs": {"oid": oid, "size": secret.size_bytes, "pointerSize": 1}}}
    with running(origin), Connection(parse_hub(origin.url)) as connection:
        mirror = Mirror(registry, connection, registry.accounts.identity("root"))
        with pytest.raises(RefusedError):
            mirror.refresh(NAME)
    with pytest.raises(NotFoundError):
        registry.repos.get(registry.accounts.identity("root"), NAME)


def test_only_who_runs_the_hub_may_mirror(registry: Registry) -> None:
    with Connection(parse_hub("127.0.0.1:9")) as connection, pytest.raises(ForbiddenError):
        Mirror(registry, connection, registry.accounts.identity("me"))
