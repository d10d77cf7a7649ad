"""A file that a hub has damaged is taken again from whoever sends the same bytes, by whichever client."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from pushing import batch, commit, lfs_file, make_repo, small
from running_hub import RunningHub, started_hub
from xet_scripts import content

from nomoat.base.progress import Silent
from nomoat.share.client.connection import Connection
from nomoat.share.client.outgoing import LocalFile, Outgoing
from nomoat.share.client.push import Mended, Pushed, Pusher, PushOptions
from nomoat.share.client.references import HubAddress
from nomoat.share.names import RepoName

SIZE = 5_000_000
XET = {"HF_HUB_DISABLE_XET": "0", "HF_XET_TELEMETRY_ENABLED": "0"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub of which nothing else is damaged."""
    with started_hub(tmp_path_factory.mktemp("mended-hub"), "--rate", "0") as hub:
        yield hub


def stored(hub: RunningHub, data: bytes) -> Path:
    name = sha256(data).hexdigest()
    return hub.root / "blobs" / "sha256" / name[:2] / name[2:4] / name


def damage(hub: RunningHub, data: bytes) -> None:
    path = stored(hub, data)
    worn = bytearray(path.read_bytes())
    worn[len(worn) * 3 // 4] ^= 4
    path.write_bytes(worn)


def whole(hub: RunningHub, repo: str, data: bytes, path: str = "model.bin") -> bool:
    """Whether a download gives the bytes. One that is cut off raises."""
    return hub.get(f"/{repo}/resolve/main/{path}", hub.admin_token).content == data


def found_by_download(hub: RunningHub, repo: str, data: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        whole(hub, repo, data)


def found_by_check(hub: RunningHub, repo: str, data: bytes) -> None:
    [problem] = hub.verb("check")["problems"]
    assert problem["what"] == f"sha256:{sha256(data).hexdigest()}"


def found_cut_off(hub: RunningHub, repo: str, data: bytes) -> None:
    """By a download that does not even begin."""
    stored(hub, data).write_bytes(data[: SIZE // 2])
    answer = hub.get(f"/{repo}/resolve/main/model.bin", hub.admin_token)
    assert answer.status_code == 500 and answer.json()["code"] == "damaged_blob"


def push_by_nomoat(
    hub: RunningHub, repo: str, folder: Path, files: dict[str, bytes], is_local: bool = True
) -> tuple[Mended, Pushed]:
    address = HubAddress(hub.url.removeprefix("http://"), hub.url)
    with Connection(address, hub.admin_token) as connection:
        connection.is_local = is_local
        pusher = Pusher(connection, RepoName.parse("model", repo))
        pusher.create(private=False)
        sent = []
        for name, data in files.items():
            (folder / name).write_bytes(data)
            sent.append(LocalFile.of_file(name, folder / name, Silent()))
        outgoing = Outgoing("folder", "m", tuple(sent))
        mended = pusher.mend(outgoing, pusher.head())
        return mended, pusher.push(outgoing, PushOptions(), mended.head)


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("found", [found_by_download, found_by_check, found_cut_off])
def test_nomoat_sends_a_damaged_file_again(
    hub: RunningHub, tmp_path: Path, found: Any, is_local: bool
) -> None:
    repo, data = f"admin/own-{found.__name__}-{is_local}", content(len(found.__name__) + 100 * is_local, SIZE)
    files = {"model.bin": data}
    _, first = push_by_nomoat(hub, repo, tmp_path, files, is_local)
    assert push_by_nomoat(hub, repo, tmp_path, files, is_local)[0].files == 0
    damage(hub, data)
    found(hub, repo, data)
    mended, again = push_by_nomoat(hub, repo, tmp_path, files, is_local)
    assert (mended.files, mended.sent_bytes) == (1, SIZE)
    assert (again.is_new, again.sent_bytes, again.commit) == (False, 0, first.commit)
    assert whole(hub, repo, data) and hub.verb("check")["problems"] == []
    assert push_by_nomoat(hub, repo, tmp_path, files, is_local)[0].files == 0


@pytest.mark.parametrize("found", [found_by_download, found_by_check])
@pytest.mark.parametrize("how", [{}, XET], ids=["lfs", "xet"])
def test_the_client_of_hugging_face_sends_a_damaged_file_again(
    hub: RunningHub, found: Any, how: dict[str, str]
) -> None:
    """Its Xet remembers for weeks what it sent to an address, and would not send it there again."""
    repo, seed = f"admin/theirs-{found.__name__}-{len(how)}", 50 + len(found.__name__) + len(how)
    here = {"REPO": repo, "SEED": str(seed), "BYTES": str(SIZE), **how}
    hub.run_client("xet_scripts", "push", **here)
    data = content(seed, SIZE)
    damage(hub, data)
    found(hub, repo, data)
    hub.run_client("xet_scripts", "push", **here)
    assert whole(hub, repo, data) and hub.verb("check")["problems"] == []


def test_small_and_empty_files_are_mended_too(hub: RunningHub, tmp_path: Path) -> None:
    files = {"notes.txt": b"some notes\n" * 9, "empty.txt": b"", "model.bin": content(3, SIZE)}
    push_by_nomoat(hub, "admin/small", tmp_path, files)
    damage(hub, files["notes.txt"])
    stored(hub, files["empty.txt"]).unlink()
    assert {each["kind"] for each in hub.verb("check")["problems"]} == {"blob"}
    tree = hub.get("/api/models/admin/small/tree/main", hub.admin_token).json()
    assert {each["path"] for each in tree if each.get("damaged")} == {"notes.txt", "empty.txt"}
    more = files | {"new.txt": b"beside them"}
    mended, pushed = push_by_nomoat(hub, "admin/small", tmp_path, more)
    assert (mended.files, pushed.files) == (2, 1)
    assert whole(hub, "admin/small", files["notes.txt"], "notes.txt")
    assert whole(hub, "admin/small", b"", "empty.txt") and hub.verb("check")["problems"] == []


def test_what_clients_ask_first_claims_no_damaged_file(hub: RunningHub) -> None:
    repo, text = make_repo(hub, hub.admin_token, "admin/asked"), b"a text that wears out\n"
    attributes = hub.get(f"/{repo}/resolve/main/.gitattributes", hub.admin_token).content
    assert commit(hub, hub.admin_token, repo, small("a.txt", text)).is_success

    def asked() -> dict[str, Any]:
        place = f"/api/models/{repo}/preupload/main"
        body = {"files": [{"path": "a.txt", "size": len(text), "sample": ""}]}
        answer: dict[str, Any] = hub.post(place, body, hub.admin_token).json()
        return dict(answer["files"][0])

    before = asked()
    assert before["oid"]
    for each in (text, attributes):  # of the second the answer itself is made
        damage(hub, each)
    assert len(hub.verb("check")["problems"]) == 2
    assert asked() == before | {"oid": None}
    for path, each in (("a.txt", text), (".gitattributes", attributes)):
        assert commit(hub, hub.admin_token, repo, small(path, each)).is_success
    assert asked() == before and hub.verb("check")["problems"] == []


def test_who_is_at_his_quota_may_mend(hub: RunningHub) -> None:
    token, data = hub.user("full"), content(77, SIZE)
    repo, oid = make_repo(hub, token, "full/model"), sha256(data).hexdigest()
    [answer] = batch(hub, token, repo, oid, SIZE).json()["objects"]
    hub.request("PUT", answer["actions"]["upload"]["href"].removeprefix(hub.url), content=data)
    assert commit(hub, token, repo, lfs_file("model.bin", oid, SIZE)).is_success
    hub.verb("user", "quota", "full", str(SIZE + 100_000))
    damage(hub, data)
    found_by_download(hub, repo, data)
    [answer] = batch(hub, token, repo, "1" * 64, SIZE).json()["objects"]
    assert answer["error"]["code"] == 413
    [answer] = batch(hub, token, repo, oid, SIZE).json()["objects"]
    href = answer["actions"]["upload"]["href"].removeprefix(hub.url)
    assert hub.request("PUT", href, content=data).is_success
    assert whole(hub, repo, data) and hub.verb("check")["problems"] == []


def test_a_damaged_older_version_is_no_base_of_a_patch(hub: RunningHub, tmp_path: Path) -> None:
    data = content(91, SIZE)
    push_by_nomoat(hub, "admin/patched", tmp_path, {"model.bin": data})
    damage(hub, data)
    found_by_download(hub, "admin/patched", data)
    newer = b"newer" + data[5:]
    assert push_by_nomoat(hub, "admin/patched", tmp_path, {"model.bin": newer})[1].sent_bytes == SIZE
    assert whole(hub, "admin/patched", newer)
    push_by_nomoat(hub, "admin/patched", tmp_path, {"model.bin": data})  # the hub has it from before
    assert whole(hub, "admin/patched", data) and hub.verb("check")["problems"] == []
