"""Uploads that a well-behaved client would not make: wrong bytes, foreign digests, too much, in a race."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pushing import batch, commit, commit_files, large, lfs_file, make_repo, push_large, small
from running_hub import RunningHub

from nomoat.share.blobs.files import FileBlobs
from nomoat.share.blobs.patch import PATCH, Copied, Literal, write_patch


def _oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _address(hub: RunningHub, token: str, repo: str, oid: str, size: int) -> str:
    href: str = batch(hub, token, repo, oid, size).json()["objects"][0]["actions"]["upload"]["href"]
    return href


def test_bytes_that_are_not_what_was_announced_are_not_kept(running_hub: RunningHub, alice: str) -> None:
    repo, content = make_repo(running_hub, alice, "alice/wrong"), os.urandom(1000)
    address = _address(running_hub, alice, repo, _oid(content), 1000)
    for body, status in ((content[:-1] + b"\0", 422), (content[:-1], 422), (content + b"x", 413)):
        assert httpx.put(address, content=body).status_code == status
    assert FileBlobs(running_hub.root / "blobs").info(f"sha256:{_oid(content)}") is None
    assert not list((running_hub.root / "blobs" / "incoming").iterdir())
    assert commit(running_hub, alice, repo, large("w.bin", content)).status_code == 422
    assert httpx.put(address, content=content).status_code == 200


def _patch_address(hub: RunningHub, token: str, repo: str, content: bytes, base: bytes) -> str:
    body = {"operation": "upload", "transfers": ["basic", PATCH],
            "objects": [{"oid": _oid(content), "size": len(content)}]}  # fmt: skip
    [answer] = hub.post(f"/{repo}.git/info/lfs/objects/batch", body, token).json()["objects"]
    return f"{answer['actions'][PATCH]['href']}?base=sha256:{_oid(base)}"


def _patch(*entries: Copied | Literal, newer: bytes = b"") -> bytes:
    return b"".join(write_patch(list(entries), io.BytesIO(newer)))


def test_a_patch_makes_what_was_announced_or_nothing(running_hub: RunningHub, alice: str) -> None:
    repo, old = make_repo(running_hub, alice, "alice/patched"), os.urandom(3_000_000)
    push_large(running_hub, alice, repo, "m.bin", old)
    new = b"new" + old
    address = _patch_address(running_hub, alice, repo, new, old)
    for patch, status in (
        (_patch(Literal(0, 3), Copied(1, len(old) - 1), newer=new), 422),
        (_patch(Literal(0, 3), Copied(0, len(old) + 1), newer=new), 422),
        (_patch(Literal(0, 3), Copied(0, len(old)), newer=b"old"), 422),
        (_patch(Copied(0, len(old)), Copied(0, len(old))), 422),
        (_patch(Literal(0, 3), newer=new)[:-1], 422), (b"nonsense" * 9, 422), (b"", 422),
    ):  # fmt: skip
        assert httpx.put(address, content=patch).status_code == status
    assert FileBlobs(running_hub.root / "blobs").info(f"sha256:{_oid(new)}") is None
    assert not list((running_hub.root / "blobs" / "incoming").iterdir())
    good = _patch(Literal(0, 3), Copied(0, len(old)), newer=new)
    assert httpx.put(address, content=good).status_code == 200
    assert commit(running_hub, alice, repo, large("m.bin", new)).status_code == 200


def test_a_patch_cannot_build_on_a_private_file(running_hub: RunningHub, alice: str, bob: str) -> None:
    hidden, secret = make_repo(running_hub, alice, "alice/unseen", private=True), os.urandom(2_000_000)
    push_large(running_hub, alice, hidden, "s.bin", secret)
    own = make_repo(running_hub, bob, "bob/patched")
    address = _patch_address(running_hub, bob, own, secret + b"x", secret)
    patch = _patch(Copied(0, len(secret)), Literal(0, 1), newer=b"x")
    assert httpx.put(address, content=patch).status_code == 404
    path = f"/api/nomoat/blobs/sha256:{_oid(secret)}/sums"
    assert running_hub.get(f"{path}?start=0&end=4096", bob).status_code == 404
    answer = running_hub.get(f"{path}?start=0&end=5000", alice)
    assert answer.headers["X-Block-Bytes"] == "4096" and len(answer.content) == 2 * 32
    for span in ("start=9&end=9", "start=9&end=5", "start=0&end=99999999"):
        assert running_hub.get(f"{path}?{span}", alice).status_code == 400


def test_more_bytes_than_announced_are_cut_off_while_they_come(running_hub: RunningHub, alice: str) -> None:
    repo = make_repo(running_hub, alice, "alice/endless")
    address = _address(running_hub, alice, repo, "0" * 64, 1000)
    sent = 0

    def endless() -> object:
        nonlocal sent
        while sent < 1 << 33:
            sent += 1 << 20
            yield bytes(1 << 20)

    answer = None
    try:
        answer = httpx.put(address, content=endless(), timeout=30)
    except httpx.TransportError:
        pass  # the connection was closed while the client was still sending
    assert answer is None or answer.status_code == 413
    assert sent < 1 << 33


def test_a_digest_alone_opens_no_private_file(running_hub: RunningHub, alice: str, bob: str) -> None:
    hidden = make_repo(running_hub, alice, "alice/hidden", private=True)
    content = os.urandom(5000)
    digest = push_large(running_hub, alice, hidden, "w.bin", content)
    oid, theirs = _oid(content), make_repo(running_hub, bob, "bob/thief")
    # Bob knows the digest. He is not told that the file is here, cannot commit it, cannot look it up ...
    assert "actions" in batch(running_hub, bob, theirs, oid, 5000).json()["objects"][0]
    assert commit(running_hub, bob, theirs, lfs_file("w.bin", oid, 5000)).status_code == 422
    for path in (f"/api/nomoat/blobs/{digest}", f"/api/nomoat/blobs/{digest}/sums"):
        assert running_hub.get(path, bob).status_code == 404 and running_hub.get(path).status_code == 404
    # ... unless he has the bytes himself, or Alice lets everybody read them.
    other = os.urandom(5000)
    push_large(running_hub, bob, theirs, "own.bin", other)
    shown = make_repo(running_hub, alice, "alice/shown")
    assert commit(running_hub, alice, shown, lfs_file("w.bin", oid, 5000)).status_code == 200
    assert "actions" not in batch(running_hub, bob, theirs, oid, 5000).json()["objects"][0]
    assert commit(running_hub, bob, theirs, lfs_file("w.bin", oid, 5000)).status_code == 200
    found = running_hub.get(f"/api/nomoat/blobs/{digest}", bob).json()
    assert {(each["repo"], each["path"]) for each in found["repos"]} == {
        ("alice/shown", "w.bin"),
        ("bob/thief", "w.bin"),
    }
    assert len(running_hub.get(f"/api/nomoat/blobs/{digest}/sums", bob).content) == 32


def test_addresses_for_uploads_cannot_be_made_up(running_hub: RunningHub, alice: str) -> None:
    repo = make_repo(running_hub, alice, "alice/tickets")
    address = _address(running_hub, alice, repo, _oid(b"one"), 3)
    before, _, ticket = address.rpartition("/")
    for forged in (ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BB"), "x", ticket + "A", "A" * 200):
        assert httpx.put(f"{before}/{forged}", content=b"one").status_code == 403


def test_of_two_pushers_one_wins_and_the_other_one_learns_it(running_hub: RunningHub, alice: str) -> None:
    repo = make_repo(running_hub, alice, "alice/race")
    for attempt in range(5):
        head = running_hub.get(f"/api/models/{repo}").json()["sha"]
        ready = threading.Barrier(4)

        def push(
            number: int, head: str = head, attempt: int = attempt, ready: threading.Barrier = ready
        ) -> httpx.Response:
            ready.wait()
            return commit(running_hub, alice, repo, small(f"{attempt}-{number}.txt", b"x"), parent=head)

        with ThreadPoolExecutor(4) as several:
            answers = list(several.map(push, range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
        assert all("moved on" in answer.json()["error"] for answer in answers if answer.status_code == 412)
    assert len(running_hub.get(f"/api/models/{repo}/commits/main").json()) == 6


def test_a_quota_ends_an_upload_before_it_begins(running_hub: RunningHub) -> None:
    token = running_hub.user("frugal")
    running_hub.verb("user", "quota", "frugal", "10kB")
    repo = make_repo(running_hub, token, "frugal/small")
    [answer] = batch(running_hub, token, repo, "0" * 64, 20_000).json()["objects"]
    assert answer["error"]["code"] == 413 and "actions" not in answer
    # What was sent and not committed counts, too; and small files inside a commit.
    push = _address(running_hub, token, repo, _oid(bytes(7000)), 7000)
    assert httpx.put(push, content=bytes(7000)).status_code == 200
    assert "error" in batch(running_hub, token, repo, "1" * 64, 7000).json()["objects"][0]
    assert commit(running_hub, token, repo, small("a.txt", os.urandom(20_000))).status_code == 413
    assert commit(running_hub, token, repo, large("w.bin", bytes(7000))).status_code == 200


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "a/../b", "a\\b", "C:x", "CON", "a\u202eb", ".git/config", "x" * 300, ""]
)
def test_a_path_that_could_do_harm_is_refused(running_hub: RunningHub, alice: str, path: str) -> None:
    if running_hub.get("/api/models/alice/harm").status_code != 200:
        make_repo(running_hub, alice, "alice/harm")
    assert commit(running_hub, alice, "alice/harm", small(path, b"x")).status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"key": "file"}', b'{"key": "header", "value": {}}', b"\xff\xfe",
                                  b'{"key": "file", "value": {"path": "a", "content": "%%", "encoding": "base64"}}',
                                  b'{"key": "lfsFile", "value": {"path": "a", "oid": "../../x"}}',
                                  b"[" * 100_000])  # fmt: skip
def test_a_commit_that_is_none_is_refused(running_hub: RunningHub, alice: str, body: bytes) -> None:
    if running_hub.get("/api/models/alice/none-such").status_code != 200:
        make_repo(running_hub, alice, "alice/none-such")
    answer = running_hub.request("POST", "/api/models/alice/none-such/commit/main", alice, content=body)
    assert answer.status_code in {400, 422}, answer.text
    assert len(running_hub.get("/api/models/alice/none-such/commits/main").json()) == 1


def test_who_may_not_write_writes_nothing(running_hub: RunningHub, alice: str, bob: str) -> None:
    repo = make_repo(running_hub, alice, "alice/guarded")
    reader = running_hub.verb("token", "add", "alice", "--scope", "read")["token"]
    for token, status in ((None, 401), (bob, 403), (reader, 403), ("hf_" + "x" * 40, 401)):
        assert commit(running_hub, token, repo, small("x", b"x")).status_code == status
        assert batch(running_hub, token, repo, "0" * 64, 1).status_code == status
        assert running_hub.post(f"/api/models/{repo}/branch/x", {}, token).status_code == status
        assert (
            running_hub.request("DELETE", "/api/repos/delete", token, json={"name": repo}).status_code
            == status
        )


def test_a_suspended_account_is_out_at_once(running_hub: RunningHub) -> None:
    token = running_hub.user("mallory")
    repo = make_repo(running_hub, token, "mallory/stuff")
    address = _address(running_hub, token, repo, _oid(b"one"), 3)
    running_hub.verb("user", "suspend", "mallory")
    assert running_hub.get("/api/whoami-v2", token).status_code == 401
    assert httpx.put(address, content=b"one").status_code == 403
    running_hub.verb("user", "suspend", "mallory", "--undo")
    assert running_hub.get("/api/whoami-v2", token).status_code == 200
    commit_files(running_hub, token, repo, a__txt=b"a")
