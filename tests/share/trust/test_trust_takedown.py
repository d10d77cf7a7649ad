"""Takedowns: gone from view with a signed reason, honoured by mirrors, and undone as openly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trust_hub import Hub

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import ForbiddenError, TakenDownError, UnauthorizedError
from nomoat.share.registry.accounts import ANONYMOUS
from nomoat.share.registry.moderation.recalls import honour_recalls
from nomoat.share.registry.moderation.tombstones import parse_target
from nomoat.share.trust.keys import new_key

ONLY, SHARED = b"only here" * 10, b"a licence text that everybody has"


def _filled(hub: Hub) -> None:
    hub.commit(hub.repo("me/notes"), {"sub/adapter.bin": ONLY, "LICENSE": SHARED}, lfs=True)
    hub.commit(hub.repo("you/other"), {"docs/LICENSE": SHARED})


def _served(hub: Hub, content: bytes) -> bool:
    try:
        hub.registry.takedowns.require_served(sha256_bytes(content))
    except TakenDownError:
        return False
    return True


def test_a_repository_goes_with_what_only_it_holds_and_comes_back(hub: Hub) -> None:
    _filled(hub)
    takedowns, repos = hub.registry.takedowns, hub.registry.repos
    takedowns.take_down(hub.admin, hub.name(), "it holds private letters")
    with pytest.raises(TakenDownError, match="private letters"):
        repos.get(hub.me, hub.name())
    assert repos.get(hub.admin, hub.name()).taken_down
    assert not _served(hub, ONLY) and _served(hub, SHARED)
    assert takedowns.statement_of(hub.name()) is not None
    takedowns.restore(hub.admin, hub.name(), "the letters were published long ago")
    assert not repos.get(hub.me, hub.name()).taken_down
    assert _served(hub, ONLY) and takedowns.statement_of(hub.name()) is None
    assert [recall.action for recall in takedowns.recalls()] == ["takedown", "restore"]
    assert hub.registry.events.verify() == []


def test_a_blob_is_served_again_once_another_repository_holds_it(hub: Hub) -> None:
    _filled(hub)
    hub.registry.takedowns.take_down(hub.admin, hub.name(), "impersonation")
    hub.commit(hub.again(hub.repo("you/mine")), {"adapter.bin": ONLY})
    assert _served(hub, ONLY)


def test_large_files_that_are_taken_down_themselves_cannot_be_sent_again(hub: Hub) -> None:
    _filled(hub)
    hub.registry.takedowns.take_down(hub.admin, hub.name(), "stolen", also_blobs=True)
    with pytest.raises(TakenDownError, match="stolen"):
        hub.commit(hub.repo("you/mine"), {"adapter.bin": ONLY})
    hub.registry.takedowns.restore(hub.admin, hub.name(), "it was not")
    hub.commit(hub.again(hub.repo("you/mine2")), {"adapter.bin": ONLY})


def test_a_former_name_does_not_lead_around_a_takedown(hub: Hub) -> None:
    _filled(hub)
    hub.registry.repos.move(hub.me, hub.name(), hub.name("me/diary"))
    hub.registry.takedowns.take_down(hub.admin, hub.name("me/diary"), "private letters")
    for name in ("me/notes", "me/diary"):
        with pytest.raises(TakenDownError, match="private letters"):
            hub.registry.repos.get(hub.me, hub.name(name))


def test_what_was_taken_down_is_not_made_or_moved_anew(hub: Hub) -> None:
    _filled(hub)
    other = hub.repo("me/other")
    hub.registry.takedowns.take_down(hub.admin, hub.name(), "private letters")
    with pytest.raises(TakenDownError):
        hub.registry.repos.move(hub.admin, hub.name(), hub.name("me/new"))
    hub.registry.repos.delete(hub.admin, hub.name())
    with pytest.raises(TakenDownError):
        hub.repo("me/notes")
    with pytest.raises(TakenDownError):
        hub.registry.repos.move(hub.me, other.name, hub.name())
    hub.registry.takedowns.restore(hub.admin, hub.name(), "the name is free again")
    assert not hub.repo("me/notes").taken_down


def test_a_file_that_was_taken_down_for_itself_stays_so_when_a_repository_comes_back(hub: Hub) -> None:
    _filled(hub)
    hub.registry.takedowns.take_down(hub.admin, parse_target(sha256_bytes(ONLY)), "stolen")
    hub.registry.takedowns.take_down(hub.admin, hub.name(), "and more", also_blobs=True)
    hub.registry.takedowns.restore(hub.admin, hub.name(), "only the one file")
    assert not _served(hub, ONLY) and _served(hub, SHARED)


def test_mirrors_ban_large_files_under_any_name_and_let_them_back(make_hub: Callable[[str], Hub]) -> None:
    origin, mirror = make_hub("origin"), make_hub("mirror")
    _filled(origin)
    mirror.commit(mirror.repo("you/copy"), {"weights.bin": ONLY}, lfs=True)
    key = origin.registry.events.key.public
    origin.registry.takedowns.take_down(origin.admin, origin.name(), "stolen", also_blobs=True)
    honour_recalls(mirror.registry, _recalls(origin), key)
    assert not _served(mirror, ONLY)
    mirror.repo("me/notes")  # the name itself means something else here
    origin.registry.takedowns.restore(origin.admin, origin.name(), "it was not")
    assert honour_recalls(mirror.registry, _recalls(origin), key).restored == ("model:me/notes",)
    assert _served(mirror, ONLY)


def test_one_blob_can_be_taken_down(hub: Hub) -> None:
    _filled(hub)
    target = parse_target(sha256_bytes(SHARED))
    hub.registry.takedowns.take_down(hub.admin, target, "not free")
    assert not _served(hub, SHARED) and _served(hub, ONLY)
    hub.registry.takedowns.restore(hub.admin, target, "free after all")
    assert _served(hub, SHARED)


def test_only_the_admin_takes_down_and_gives_a_reason(hub: Hub) -> None:
    _filled(hub)
    takedowns = hub.registry.takedowns
    with pytest.raises(ForbiddenError):
        takedowns.take_down(hub.me, hub.name("you/other"), "envy")
    with pytest.raises(UnauthorizedError):
        takedowns.take_down(ANONYMOUS, hub.name(), "envy")
    with pytest.raises(InputError, match="reason"):
        takedowns.take_down(hub.admin, hub.name(), "  ")
    with pytest.raises(NotFoundError):
        takedowns.take_down(hub.admin, hub.name("me/none"), "x")
    with pytest.raises(NotFoundError):
        takedowns.restore(hub.admin, hub.name(), "x")
    assert takedowns.recalls() == []


def test_a_private_repository_is_in_no_recall_list(hub: Hub) -> None:
    hub.commit(hub.repo("me/diary", private=True), {"a": b"a"})
    hub.registry.takedowns.take_down(hub.admin, hub.name("me/diary"), "reason")
    assert hub.registry.takedowns.recalls() == []


def _recalls(hub: Hub) -> list[dict[str, object]]:
    return [recall.as_json() for recall in hub.registry.takedowns.recalls()]


def test_a_mirror_does_the_same_once(make_hub: Callable[[str], Hub]) -> None:
    origin, mirror, stranger = make_hub("origin"), make_hub("mirror"), make_hub("stranger")
    _filled(origin)
    _filled(mirror)
    stranger.commit(stranger.repo("me/notes"), {"recipe.md": b"something else"})
    origin.registry.takedowns.take_down(origin.admin, origin.name(), "private letters")
    key = origin.registry.events.key.public
    done = honour_recalls(mirror.registry, _recalls(origin), key)
    assert done.taken_down == ("model:me/notes",) and not done.skipped
    with pytest.raises(TakenDownError, match="private letters"):
        mirror.registry.repos.get(mirror.me, mirror.name())
    assert not _served(mirror, ONLY)
    assert honour_recalls(mirror.registry, _recalls(origin), key).skipped == (
        ("model:me/notes", "honoured before"),
    )
    assert honour_recalls(stranger.registry, _recalls(origin), key).skipped == (
        ("model:me/notes", "not here"),
    )
    assert not stranger.again(stranger.registry.repos.get(stranger.me, stranger.name())).taken_down
    origin.registry.takedowns.restore(origin.admin, origin.name(), "a mistake")
    assert honour_recalls(mirror.registry, _recalls(origin), key).restored == ("model:me/notes",)
    assert not mirror.registry.repos.get(mirror.me, mirror.name()).taken_down and _served(mirror, ONLY)
    assert mirror.registry.events.verify() == []


def test_recalls_that_the_hub_did_not_sign_change_nothing(make_hub: Callable[[str], Hub]) -> None:
    origin, mirror = make_hub("origin"), make_hub("mirror")
    _filled(origin)
    _filled(mirror)
    origin.registry.takedowns.take_down(origin.admin, origin.name(), "r")
    done = honour_recalls(mirror.registry, _recalls(origin), new_key().public)
    assert "not signed" in done.skipped[0][1]
    forged = [{**entry, "bundle": {**entry["bundle"], "mediaType": "x"}} for entry in _recalls(origin)]  # type: ignore[dict-item]
    key = origin.registry.events.key.public
    junk: list[dict[str, object]] = [{}, {"bundle": 3}, *forged]
    assert len(honour_recalls(mirror.registry, junk, key).skipped) == 3
    assert not mirror.registry.repos.get(mirror.me, mirror.name()).taken_down


def test_a_mirrors_own_decision_outweighs_the_origins(make_hub: Callable[[str], Hub]) -> None:
    origin, mirror = make_hub("origin"), make_hub("mirror")
    for each in (origin, mirror):
        _filled(each)
        each.registry.takedowns.take_down(each.admin, each.name(), "r")
    origin.registry.takedowns.restore(origin.admin, origin.name(), "r")
    honour_recalls(mirror.registry, _recalls(origin), origin.registry.events.key.public)
    with pytest.raises(TakenDownError):
        mirror.registry.repos.get(mirror.me, mirror.name())
