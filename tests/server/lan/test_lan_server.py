"""What `nomoat share` answers, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lan_peers import Sharing, shelf_of, started
from made_things import filled_store, made_model, store_at
from nomoat.base.digests import sha256_bytes
from nomoat.server.lan.app import make_lan_app
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.lan.blocks import block_sum
from nomoat.store.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("shared"), "shown")


@pytest.fixture(scope="module")
def sharing(store: Store) -> Iterator[Sharing]:
    with started(store.home, "shown", "notes") as running:
        yield running


@pytest.fixture
def client(sharing: Sharing) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sharing.url, timeout=10) as made:
        yield made


@pytest.fixture
def content(store: Store) -> bytes:
    return store.resolve("shown").path.read_bytes()


def test_one_line_says_all_that_a_program_needs(sharing: Sharing, store: Store) -> None:
    ready = sharing.ready
    assert ready["url"].startswith("http://127.0.0.1:") and ready["urls"] == [ready["url"]]
    assert ready["pid"] == sharing.process.pid
    assert [thing["name"] for thing in ready["things"]] == ["shown", "notes"]
    assert ready["things"][0]["digest"] == store.resolve("shown").digest
    assert len(ready["announced"]) == 2


def test_exactly_what_was_named_is_listed_and_readable(client: httpx.Client, store: Store) -> None:
    listing = client.get("/things.json").json()
    assert listing["v"] == 1
    assert [(thing["name"], thing["kind"]) for thing in listing["things"]] == [
        ("shown", "model"),
        ("notes", "adapter"),
    ]
    for thing in listing["things"]:
        for file in thing["files"]:
            body = client.get(f"/blobs/{file['digest']}").content
            assert sha256_bytes(body) == file["digest"] and len(body) == file["bytes"]
    assert not [file for thing in listing["things"] for file in thing["files"] if "report" in file["path"]]
    hidden = store.resolve("hidden").digest
    for path in (f"/blobs/{hidden}", f"/blobs/{hidden}/blocks", "/blobs/..%2f..%2fetc%2fpasswd", "/etc/passwd",
                 "/blobs/sha256:" + "0" * 64, "/docs", "/things"):  # fmt: skip
        assert client.get(path).status_code == 404, path


def test_blocks_are_what_they_are_said_to_be(client: httpx.Client, store: Store, content: bytes) -> None:
    answer = client.get(f"/blobs/{store.resolve('shown').digest}/blocks")
    blocks = [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]
    assert answer.content == b"".join(map(block_sum, blocks)) and len(blocks) > 3
    assert answer.headers["X-Blob-Size"] == str(len(content))


@pytest.mark.parametrize(("asked", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=1048570-1048585", 1048570, 1048586),
    ("bytes=0-999999999", 0, None), ("bytes=-999999999", 0, None),
])  # fmt: skip
def test_a_range_is_that_part(
    client: httpx.Client, store: Store, content: bytes, asked: str, start: int, end: int | None
) -> None:
    path = f"/blobs/{store.resolve('shown').digest}"
    answer = client.get(path, headers={"Range": asked})
    assert answer.status_code == 206 and answer.content == content[start:end]
    first = start % len(content)
    assert (
        answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(content)}"
    )
    head = client.head(path, headers={"Range": asked})
    assert head.headers["Content-Length"] == str(len(answer.content)) and not head.content


def test_ranges_that_are_none(client: httpx.Client, store: Store, content: bytes) -> None:
    path = f"/blobs/{store.resolve('shown').digest}"
    for asked in (f"bytes={len(content)}-", "bytes=9-3", "bytes=-0"):
        answer = client.get(path, headers={"Range": asked})
        assert answer.status_code == 416 and answer.headers["Content-Range"] == f"bytes */{len(content)}", (
            asked
        )
    for asked in ("bytes=0-1,3-4", "bytes=-", "lines=1-2", "bytes=1e3-"):
        assert client.get(path, headers={"Range": asked}).status_code == 200
    stale = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert client.get(path, headers=stale).status_code == 200
    tag = client.head(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(path, headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == 206


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(client: httpx.Client, method: str) -> None:
    for path in ("/", "/things.json", "/blobs/x"):
        assert client.request(method, path).status_code == 405


@pytest.mark.parametrize(("host", "status"), [
    ("192.168.1.5:4321", 200), ("[::1]:80", 200), ("kitchen.local", 200), ("kitchen.local.:80", 200),
    ("localhost", 200), ("evil.example", 403), ("192.168.1.5.evil.example", 403), ("", 403), ("local", 403),
])  # fmt: skip
def test_a_site_cannot_read_it_under_a_name_of_its_own(client: httpx.Client, host: str, status: int) -> None:
    assert client.get("/things.json", headers={"Host": host}).status_code == status


def test_only_machines_of_this_network_are_answered(store: Store) -> None:
    app = make_lan_app(shelf_of(store, "notes"))

    async def get(address: str) -> int:
        transport = httpx.ASGITransport(app, client=(address, 4000))
        async with httpx.AsyncClient(transport=transport, base_url="http://192.168.1.5") as client:
            return (await client.get("/things.json")).status_code

    assert asyncio.run(get("192.168.1.7")) == 200
    assert asyncio.run(get("203.0.114.7")) == 403


def test_the_page_says_what_it_is_and_needs_no_script(client: httpx.Client, store: Store) -> None:
    answer = client.get("/")
    page = answer.text
    for wanted in ("shown", "notes", store.resolve("shown").digest, "MIT", "cc-by-4.0", "nomoat pull lan/shown",
                   f"nomoat pull lan/{client.base_url.netloc.decode()}/notes"):  # fmt: skip
        assert wanted in page
    own = f"HF_ENDPOINT={client.base_url}"
    assert page.count(own) == 2
    assert "<script" not in page and "http://" not in page.replace(own, "") and "https://" not in page
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert client.get("/lan.css").headers["Content-Type"].startswith("text/css")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    path = f"/blobs/{store.resolve('shown').digest}"
    assert client.head(path).headers["Content-Disposition"] == "attachment; filename*=UTF-8''shown.gguf"


def test_one_peer_cannot_take_all_connections(sharing: Sharing, client: httpx.Client, store: Store) -> None:
    address = ("127.0.0.1", int(sharing.url.rpartition(":")[2]))
    request = f"GET /blobs/{store.resolve('shown').digest} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    held = []
    try:
        for _ in range(16):  # none of them reads its answer
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(address)
            connection.sendall(request)
            held.append(connection)
        deadline = time.monotonic() + 5
        while (answer := client.get("/things.json")).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.status_code == 429 and answer.headers["Retry-After"]
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 5
    while client.get("/things.json").status_code != 200:
        assert time.monotonic() < deadline, "they have gone, and are still counted"


def test_the_end_cuts_what_runs_and_is_quick(store: Store, tmp_path: Path) -> None:
    large = store_at(tmp_path / "home")
    large.import_file(made_model(tmp_path / "model.gguf", 4, mebibytes=24), "large")
    digest = large.resolve("large").digest
    with started(large.home, "large") as sharing, httpx.Client() as client:
        with client.stream("GET", f"{sharing.url}/blobs/{digest}") as answer:
            received = answer.iter_raw(65536)
            next(received)
            sharing.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                for _ in received:
                    time.sleep(0.02)
        assert sharing.process.wait(5) == 0
        assert "Traceback" not in sharing.log.read_text()
        with pytest.raises(httpx.ConnectError):
            client.get(sharing.url)
