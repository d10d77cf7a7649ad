"""Downloads, header by header: ranges, conditions, redirects, damaged files, many at once."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from blake3 import blake3
from pushing import commit_files, make_repo, push_large
from running_hub import RunningHub

from nomoat.share.blobs.files import FileBlobs

_CONTENT = os.urandom(2_500_000)


@pytest.fixture(scope="module")
def repo(running_hub: RunningHub, alice: str) -> str:
    name = make_repo(running_hub, alice, "alice/downloads")
    push_large(running_hub, alice, name, "deep/w.bin", _CONTENT)
    commit_files(running_hub, alice, name, small__txt=b"0123456789", page__html=b"<script>alert(1)</script>")
    return name


def _headers(answer: httpx.Response, *names: str) -> list[str | None]:
    return [answer.headers.get(name) for name in names]


def test_a_file_comes_with_what_clients_rely_on(running_hub: RunningHub, repo: str) -> None:
    answer = running_hub.get(f"/{repo}/resolve/main/deep/w.bin")
    assert answer.status_code == 200 and answer.content == _CONTENT
    head = running_hub.request("HEAD", f"/{repo}/resolve/main/deep/w.bin")
    assert head.headers["content-length"] == "2500000" and head.content == b""
    commit = running_hub.get(f"/api/models/{repo}").json()["sha"]
    for each in (answer, head):
        assert each.headers["x-repo-commit"] == commit
        assert each.headers["etag"] == each.headers["x-linked-etag"] and len(each.headers["etag"]) == 66
        assert _headers(each, "x-linked-size", "accept-ranges") == ["2500000", "bytes"]
    tree = running_hub.get(f"/api/models/{repo}/tree/main").json()
    oid = next(entry["oid"] for entry in tree if entry["path"] == "small.txt")
    assert running_hub.get(f"/{repo}/resolve/main/small.txt").headers["etag"] == f'"{oid}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=1048570-1048590", 1048570, 1048591), ("bytes=2499990-", 2499990, 2500000),
     ("bytes=-5", 2499995, 2500000), ("bytes=5-99999999", 5, 2500000)],
)  # fmt: skip
def test_a_range_is_served_as_asked(
    running_hub: RunningHub, repo: str, asked: str, start: int, stop: int
) -> None:
    answer = running_hub.get(f"/{repo}/resolve/main/deep/w.bin", headers={"Range": asked})
    assert answer.status_code == 206 and answer.content == _CONTENT[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/2500000"


def test_a_range_beyond_the_end_is_refused(running_hub: RunningHub, repo: str) -> None:
    answer = running_hub.get(f"/{repo}/resolve/main/deep/w.bin", headers={"Range": "bytes=2500000-"})
    assert answer.status_code == 416 and answer.headers["content-range"] == "bytes */2500000"


@pytest.mark.parametrize("headers", [{"Range": "bytes=0-1,5-6"}, {"Range": "lines=1-2"},
                                     {"Range": "bytes=0-1", "If-Range": '"other"'}])  # fmt: skip
def test_what_is_no_single_range_of_this_file_gets_the_whole(
    running_hub: RunningHub, repo: str, headers: dict[str, str]
) -> None:
    answer = running_hub.get(f"/{repo}/resolve/main/small.txt", headers=headers)
    assert answer.status_code == 200 and answer.content == b"0123456789"


def test_a_file_that_the_client_has_is_not_sent_again(running_hub: RunningHub, repo: str) -> None:
    etag = running_hub.get(f"/{repo}/resolve/main/small.txt").headers["etag"]
    answer = running_hub.get(f"/{repo}/resolve/main/small.txt", headers={"If-None-Match": etag})
    assert answer.status_code == 304 and answer.content == b""


def test_files_of_users_never_run_as_pages(running_hub: RunningHub, repo: str) -> None:
    answer = running_hub.get(f"/{repo}/resolve/main/page.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_revisions_with_slashes_may_be_encoded_or_not(running_hub: RunningHub, alice: str, repo: str) -> None:
    assert running_hub.post(f"/api/models/{repo}/branch/a%2Fb", {}, alice).status_code == 200
    for revision in ("a%2Fb", "refs%2Fheads%2Fa%2Fb", "refs/heads/main", "main"):
        assert running_hub.get(f"/{repo}/resolve/{revision}/small.txt").content == b"0123456789", revision
    assert running_hub.get(f"/api/models/{repo}/tree/a%2Fb/deep").json()[0]["path"] == "deep/w.bin"


def test_what_is_missing_is_named(running_hub: RunningHub, alice: str, repo: str) -> None:
    missing = running_hub.get(f"/{repo}/resolve/main/none.txt")
    assert missing.status_code == 404 and missing.headers["x-error-code"] == "EntryNotFound"
    assert len(missing.headers["x-repo-commit"]) == 40  # by which clients remember it
    assert running_hub.get(f"/{repo}/resolve/none/x").headers["x-error-code"] == "RevisionNotFound"
    for token, status in ((None, 401), (alice, 404)):
        gone = running_hub.get("/alice/none/resolve/main/x", token)
        assert gone.status_code == status and gone.headers["x-error-code"] == "RepoNotFound"
        assert gone.headers["x-request-id"]


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/hub.db", "..%2f..%2fhub.db", "deep/%2e%2e/small.txt", "%00",
                                  "deep//w.bin", "small.txt/", "%ff%fe"])  # fmt: skip
def test_no_path_leads_out_of_a_repository(running_hub: RunningHub, repo: str, path: str) -> None:
    answer = httpx.get(httpx.URL(running_hub.url, raw_path=f"/{repo}/resolve/main/{path}".encode()))
    if path == "small.txt/":
        assert answer.content == b"0123456789"  # a slash at the end is forgiven
    else:
        assert answer.status_code == 404, answer.text


def test_a_moved_repository_is_found_under_its_old_name(running_hub: RunningHub, alice: str) -> None:
    make_repo(running_hub, alice, "alice/old-name")
    commit_files(running_hub, alice, "alice/old-name", a__txt=b"a")
    moved = running_hub.post(
        "/api/repos/move", {"fromRepo": "alice/old-name", "toRepo": "alice/new-name"}, alice
    )
    assert moved.status_code == 200, moved.text
    for path, target in (
        ("/alice/old-name/resolve/main/a.txt?x=1", "/alice/new-name/resolve/main/a.txt?x=1"),
        ("/api/models/Alice/Old-Name/tree/main", "/api/models/alice/new-name/tree/main"),
    ):
        answer = running_hub.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, target)
    assert running_hub.get("/alice/old-name/resolve/main/a.txt", follow_redirects=True).content == b"a"


def test_a_damaged_file_is_never_served_as_if_it_were_whole(running_hub: RunningHub, alice: str) -> None:
    repo = make_repo(running_hub, alice, "alice/damaged")
    content = os.urandom(3 << 20)
    for name, place in (("first.bin", 5), ("last.bin", (2 << 20) + 5)):
        digest = push_large(running_hub, alice, repo, name, content + name.encode())
        with FileBlobs(running_hub.root / "blobs").path(digest).open("r+b") as blob:
            blob.seek(place)
            blob.write(b"\0\0\0\0")
    answer = running_hub.get(f"/{repo}/resolve/main/first.bin")
    assert answer.status_code == 500 and answer.json()["code"] == "damaged_blob"
    with pytest.raises(httpx.RemoteProtocolError):  # the connection ends before the announced length
        running_hub.get(f"/{repo}/resolve/main/last.bin")
    whole = running_hub.get(f"/{repo}/resolve/main/last.bin", headers={"Range": "bytes=0-2097151"})
    assert whole.content == content[: 2 << 20]  # blocks that are whole are still there
    assert "differs from what was stored" in (running_hub.home / "hub.log").read_text()


def test_two_hundred_downloads_at_once(running_hub: RunningHub, repo: str) -> None:
    def download(number: int) -> bool:
        with httpx.Client(timeout=120) as client:
            return client.get(f"{running_hub.url}/{repo}/resolve/main/deep/w.bin").content == _CONTENT

    with ThreadPoolExecutor(200) as many:
        assert all(many.map(download, range(200)))


def test_the_hub_says_what_it_knows_of_origin_and_trust(
    running_hub: RunningHub, alice: str, repo: str
) -> None:
    graph = running_hub.get(f"/api/models/{repo}/lineage").json()
    assert [node["id"] for node in graph["nodes"]] == [repo] and graph["edges"] == []
    trust = running_hub.get(f"/api/models/{repo}/trust").json()
    assert trust["commit"] == running_hub.get(f"/api/models/{repo}").json()["sha"]
    assert trust["signature"]["state"] == "unsigned", trust
    assert running_hub.get("/api/nomoat/recalls?since=0").json()["recalls"] == []


def test_checksums_of_blocks_are_those_of_the_file(running_hub: RunningHub, repo: str) -> None:
    digest = f"sha256:{hashlib.sha256(_CONTENT).hexdigest()}"
    found = running_hub.get(f"/api/nomoat/blobs/{digest}").json()
    assert found["size"] == 2_500_000 and found["repos"] == [
        {"kind": "model", "repo": repo, "path": "deep/w.bin"}
    ]
    sums = running_hub.get(f"/api/nomoat/blobs/{digest}/sums")
    block = int(sums.headers["x-block-bytes"])
    parts = [_CONTENT[place : place + block] for place in range(0, len(_CONTENT), block)]
    assert sums.content == b"".join(blake3(part).digest() for part in parts)


def test_downloads_are_counted_once_for_each_large_file(running_hub: RunningHub, alice: str) -> None:
    name = make_repo(running_hub, alice, "alice/counted")
    commit_files(running_hub, alice, name, config__json=b"{}", other__json=b"{}")
    for path in ("config.json", "other.json", "config.json"):
        running_hub.get(f"/{name}/resolve/main/{path}")
    running_hub.request("HEAD", f"/{name}/resolve/main/config.json")
    deadline = time.monotonic() + 10
    while running_hub.get(f"/api/models/{name}").json()["downloads"] != 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
