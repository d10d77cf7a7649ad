"""A hub among people who mean it harm: refused with a reason, logged, and nothing of it is kept."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import pickle
import random
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import lz4.frame
import pytest
from kept import kept_by
from PIL import Image
from running_hub import RunningHub

Commit = Callable[[str, bytes], Any]


@pytest.fixture(scope="module")
def mallory(running_hub: RunningHub) -> str:
    token = running_hub.user("mallory")
    running_hub.post("/api/repos/create", {"name": "evil", "type": "model"}, token)
    upload_large(
        running_hub, "mallory/evil", b"", token
    )  # the hub makes the secret that it signs addresses with
    return token


@pytest.fixture
def commit(running_hub: RunningHub, mallory: str) -> Commit:
    """Send a file the way clients do: small ones inside the commit, weights as LFS files."""

    def send(path: str, content: bytes) -> Any:
        if path.endswith((".safetensors", ".gguf", ".bin")):
            return send_large(running_hub, "mallory/evil", path, content, mallory)
        value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
        return commit_line(running_hub, "mallory/evil", {"key": "file", "value": value}, mallory)

    return send


def send_large(hub: RunningHub, repo: str, path: str, content: bytes, token: str) -> httpx.Response:
    answer = upload_large(hub, repo, content, token)
    assert answer is None or answer.status_code == 200, answer.text
    return commit_large(hub, repo, path, content, token)


def upload_large(hub: RunningHub, repo: str, content: bytes, token: str, sent: bytes | None = None) -> Any:
    """The answer to the upload; None where the hub has the bytes already. `sent` goes in the place of `content`."""
    one = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    body = {"operation": "upload", "transfers": ["basic"], "objects": [one]}
    [found] = hub.post(f"/{repo}.git/info/lfs/objects/batch", body, token).json()["objects"]
    if "actions" not in found:
        return None
    address = found["actions"]["upload"]["href"].removeprefix(hub.url)
    return hub.request("PUT", address, content=content if sent is None else sent)


def commit_large(hub: RunningHub, repo: str, path: str, content: bytes, token: str) -> httpx.Response:
    value = {"path": path, "algo": "sha256", "oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return commit_line(hub, repo, {"key": "lfsFile", "value": value}, token)


def commit_line(hub: RunningHub, repo: str, line: dict[str, Any], token: str) -> httpx.Response:
    lines = [{"key": "header", "value": {"summary": "a gift"}}, line]
    content = "\n".join(json.dumps(each) for each in lines).encode()
    return hub.request("POST", f"/api/models/{repo}/commit/main", token, content=content)


def raw(hub: RunningHub, content: bytes) -> bytes:
    """The answer to bytes that no client library would send."""
    address = urlsplit(hub.url)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(content)
            return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def raw_get(hub: RunningHub, address: str, token: str) -> bytes:
    lines = (
        f"GET {address} HTTP/1.1",
        f"Host: {netloc(hub)}",
        f"Authorization: Bearer {token}",
        "Connection: close",
    )
    return raw(hub, "\r\n".join((*lines, "", "")).encode())


def netloc(hub: RunningHub) -> str:
    return urlsplit(hub.url).netloc


class Owned:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("owned",)


def safetensors(rows: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(rows).encode()
    return struct.pack("<Q", len(text)) + text + data


def picture_bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def many_tensors() -> bytes:
    one = '"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    text = ("{" + "".join(one % number for number in range(1_000_000))[:-1] + "}").encode()
    return struct.pack("<Q", len(text)) + text


def picture() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(target, "PNG")
    return target.getvalue()


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
    return target.getvalue()


def lz4_bomb() -> bytes:
    body = lz4.frame.compress(bytes(50_000_000))
    return b"\0" + len(body).to_bytes(3, "little") + b"\1" + (100_000).to_bytes(3, "little") + body


OUTWARD = [
    "../up.txt",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    ".git/config",
    "a\\b",
    "con.txt",
    "a\0b",
    "a/./b",
    "x" * 300,
]
ROW = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
OVERLAP = {
    "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]},
}


FILES: list[tuple[str, Callable[[], bytes]]] = [
    ("model.safetensors", lambda: pickle.dumps(Owned())),
    ("pytorch_model.bin", lambda: pickle.dumps(Owned(), 2)),
    ("late.bin", lambda: b"V" + b"x" * 3_000_000 + b"\n0cos\nsystem\n(S'id'\ntR."),
    ("weights.bin", lambda: b"PK\x03\x04" + bytes(100)),
    ("bomb.bin", lambda: zipped(bytes(10_000_000))),
    ("overlap.safetensors", lambda: safetensors(OVERLAP, bytes(12))),
    ("trailing.safetensors", lambda: safetensors({"a": ROW}, bytes(8) + b"payload")),
    ("million.safetensors", many_tensors),
    ("picture.png", picture_bomb),
    ("behind.png", lambda: picture() + zipped(b"x")),
    ("logo.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    ("run.sh", lambda: b"#!/bin/sh\nrm -rf ~\n"),
    ("config.json", lambda: b"[" * 100_000),
    ("README.md", lambda: b"---\na: &a [x]\nb: *a\n---\n"),
    ("model.gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 1)),
]


@contextlib.contextmanager
def nothing_kept(hub: RunningHub, *logged: str) -> Iterator[None]:
    """Files and rows of the hub are the same afterwards, and its log says each of `logged` once more."""
    log = hub.home / "hub.log"
    before, at = kept_by(hub.root), log.stat().st_size
    yield
    deadline = time.monotonic() + 10
    while not all(each in log.read_bytes()[at:].decode() for each in logged) and time.monotonic() < deadline:
        time.sleep(0.05)  # another process writes it
    lines = log.read_bytes()[at:].decode()
    assert all(each in lines for each in logged), (logged, lines)
    after = kept_by(hub.root)
    assert {name for name in before.keys() ^ after.keys()} == set()


@pytest.mark.parametrize(("path", "make"), FILES, ids=[path for path, _ in FILES])
def test_of_a_harmful_file_nothing_is_kept(
    running_hub: RunningHub, mallory: str, commit: Commit, path: str, make: Callable[[], bytes]
) -> None:
    before = running_hub.get("/api/models/mallory/evil", mallory).json()["sha"]
    content = make()
    with nothing_kept(running_hub, "refused", path):
        answer = commit(path, content)
        assert answer.status_code == 422, answer.text
        assert path in answer.json()["error"] and answer.json()["code"] == "refused"
    assert running_hub.get("/api/models/mallory/evil", mallory).json()["sha"] == before
    assert running_hub.get(f"/mallory/evil/resolve/main/{path}", mallory).status_code == 404


def test_what_somebody_else_has_stays(
    running_hub: RunningHub, mallory: str, commit: Commit, bob: str
) -> None:
    content = b"some weights" * 1000
    running_hub.post("/api/repos/create", {"name": "good", "type": "model"}, bob)
    send_large(running_hub, "bob/good", "fine.dat", content, bob)
    assert commit("trick.safetensors", content).status_code == 422  # the same bytes are no safetensors file
    assert running_hub.get("/bob/good/resolve/main/fine.dat", bob).content == content
    waiting = b"other weights" * 1000
    upload_large(running_hub, "bob/good", waiting, bob)
    assert commit("trick.safetensors", waiting).status_code == 422
    answer = commit_large(running_hub, "bob/good", "later.dat", waiting, bob)
    assert answer.status_code == 200, answer.text


def test_two_send_the_same_at_the_same_time(
    running_hub: RunningHub, mallory: str, commit: Commit, bob: str
) -> None:
    running_hub.post("/api/repos/create", {"name": "raced", "type": "model"}, bob)
    failed: list[str] = []

    def push(number: int) -> None:
        content = f"weights {number}".encode() * 3000
        for _ in range(5):  # told to send it again, clients do
            try:
                answer = send_large(running_hub, "bob/raced", f"{number}.dat", content, bob)
            except AssertionError:
                continue
            if answer.status_code == 200:
                return
        failed.append(answer.text)

    for number in range(15):
        content = f"weights {number}".encode() * 3000
        with ThreadPoolExecutor(2) as pool:
            mine = pool.submit(push, number)
            pool.submit(commit, "trick.safetensors", content).result()
            mine.result()
        assert running_hub.get(f"/bob/raced/resolve/main/{number}.dat", bob).content == content
    assert not failed


@pytest.mark.parametrize("path", OUTWARD)
def test_no_path_leads_out(running_hub: RunningHub, commit: Commit, path: str) -> None:
    with nothing_kept(running_hub, "refused", "cannot be a file's path"):
        assert commit(path, b"text").status_code == 400
    assert not [found for found in running_hub.home.rglob("*") if found.name in {"up.txt", "passwd"}]


@pytest.mark.parametrize(
    "address",
    ["/mallory/evil/resolve/main/..%2F..%2Fhub.db", "/mallory/evil/resolve/main/%2e%2e/%2e%2e/hub.db",
     "/mallory/evil/resolve/..%2F..%2Fmain/x", "/api/models/mallory/evil/tree/main/..%2F..%2F..",
     "/userfiles/picture/..%2f..%2fx/320.webp", "/api/models/..%2F..%2Fetc", "/static/..%2f..%2f..%2fetc/passwd",
     "/mallory/evil/resolve/main/..%5c..%5chub.db"],
)  # fmt: skip
def test_no_address_leads_out(running_hub: RunningHub, mallory: str, address: str) -> None:
    with nothing_kept(running_hub, "refused"):
        answer = raw_get(running_hub, address, mallory)
        assert answer.split(b" ", 2)[1] in {b"400", b"401", b"404"}, answer[:200]
        assert b"SQLite format" not in answer and b"root:" not in answer


@pytest.mark.parametrize("oid", ["../../../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/x", ""])
def test_no_digest_leads_out(running_hub: RunningHub, mallory: str, oid: str) -> None:
    body = {"operation": "upload", "objects": [{"oid": oid, "size": 4}]}
    with nothing_kept(running_hub):
        assert running_hub.post("/mallory/evil.git/info/lfs/objects/batch", body, mallory).status_code == 400
        for address in (
            f"/v1/xet/0/v1/xorbs/default/{quote(oid, safe='')}",
            f"/api/uploads/{quote(oid, safe='')}x",
        ):
            assert running_hub.request("POST", address, mallory, content=b"x").status_code in {
                400,
                401,
                403,
                404,
                405,
            }


def test_what_is_no_xorb_and_no_shard(running_hub: RunningHub, mallory: str) -> None:
    token = running_hub.get("/api/models/mallory/evil/xet-write-token/main", mallory).json()["accessToken"]
    with nothing_kept(running_hub, "refused"):
        for address in (f"/v1/xet/0/v1/xorbs/default/{'0' * 64}", "/v1/xet/0/v1/shards"):
            for content in (b"", b"\0" * 100, random.Random(1).randbytes(5000), lz4_bomb()):
                answer = running_hub.request("POST", address, token, content=content)
                assert answer.status_code == 422, answer.text


def test_bytes_that_are_not_what_was_announced(running_hub: RunningHub, mallory: str) -> None:
    with nothing_kept(running_hub, "refused"):
        for sent in (b"fake", b"", b"rea"):
            assert upload_large(running_hub, "mallory/evil", b"real", mallory, sent).status_code == 422
        assert (
            upload_large(running_hub, "mallory/evil", b"real", mallory, b"more than that").status_code == 413
        )


def test_a_head_without_end(running_hub: RunningHub) -> None:
    with nothing_kept(running_hub, "the head of a request is too long"):
        head = f"GET / HTTP/1.1\r\nHost: {netloc(running_hub)}\r\nX-Long: {'x' * 100_000}"
        assert raw(running_hub, head.encode()).split(b" ", 2)[1:2] in ([b"400"], [])


def test_a_token_in_an_address_is_refused_and_not_logged(running_hub: RunningHub, mallory: str) -> None:
    with nothing_kept(running_hub, "a token has no place in an address"):
        for name in ("token", "access_token", "x"):
            assert running_hub.get(f"/api/whoami-v2?{name}={mallory}").status_code == 400
    assert mallory not in (running_hub.home / "hub.log").read_text()


def test_the_hub_is_sound_after_all_of_it(running_hub: RunningHub) -> None:
    assert running_hub.verb("check")["problems"] == []
