"""A hub among people who mean it harm: refused with a reason, logged, and nothing of it is kept."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from running_hub import RunningHub

Commit = Callable[[str, bytes], Any]


@pytest.fixture(scope="module")
def mallory(running_hub: RunningHub) -> str:
    token = running_hub.user("mallory")
    running_hub.post("/api/repos/create", {"name": "evil", "type": "model"}, token)
    return token


@pytest.fixture
def commit(running_hub: RunningHub, mallory: str) -> Commit:
    """Send a file the way clients do: small ones inside the commit, weights as LFS files."""

    def send(path: str, content: bytes) -> Any:
        large = path.endswith((".safetensors", ".gguf", ".bin"))
        value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
        line = {"key": "file", "value": value}
        if large:
            oid, size = hashlib.sha256(content).hexdigest(), len(content)
            body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
            [one] = running_hub.post("/mallory/evil.git/info/lfs/objects/batch", body, mallory).json()[
                "objects"
            ]
            if "actions" in one:
                running_hub.request(
                    "PUT", one["actions"]["upload"]["href"].removeprefix(running_hub.url), content=content
                )
            line = {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": size}}
        lines = [{"key": "header", "value": {"summary": "a gift"}}, line]
        return running_hub.request(
            "POST", "/api/models/mallory/evil/commit/main", mallory,
            content="\n".join(json.dumps(each) for each in lines).encode(),
        )  # fmt: skip

    return send


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


OVERLAP = {
    "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]},
}


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("model.safetensors", lambda: pickle.dumps(Owned())),
        ("pytorch_model.bin", lambda: pickle.dumps(Owned(), 2)),
        ("weights.bin", lambda: b"PK\x03\x04" + bytes(100)),
        ("overlap.safetensors", lambda: safetensors(OVERLAP, bytes(12))),
        ("million.safetensors", many_tensors),
        ("picture.png", picture_bomb),
        ("logo.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        ("run.sh", lambda: b"#!/bin/sh\nrm -rf ~\n"),
        ("config.json", lambda: b"[" * 100_000),
        ("README.md", lambda: b"---\na: &a [x]\nb: *a\n---\n"),
        ("model.gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 1)),
    ],
)
def test_a_harmful_file_is_no_part_of_any_commit(
    running_hub: RunningHub, mallory: str, commit: Commit, path: str, make: Callable[[], bytes]
) -> None:
    before = running_hub.get("/api/models/mallory/evil", mallory).json()["sha"]
    answer = commit(path, make())
    assert answer.status_code == 422, answer.text
    assert path in answer.json()["error"] and answer.json()["code"] == "refused"
    assert running_hub.get("/api/models/mallory/evil", mallory).json()["sha"] == before
    assert running_hub.get(f"/mallory/evil/resolve/main/{path}", mallory).status_code == 404
    assert path in (running_hub.home / "hub.log").read_text()


@pytest.mark.parametrize(
    "path",
    [
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
    ],
)
def test_no_path_leads_out(running_hub: RunningHub, commit: Commit, path: str) -> None:
    assert commit(path, b"text").status_code == 400
    assert not [found for found in running_hub.home.rglob("*") if found.name in {"up.txt", "passwd"}]


def test_a_token_in_an_address_is_refused_and_not_logged(running_hub: RunningHub, mallory: str) -> None:
    for name in ("token", "access_token", "x"):
        assert running_hub.get(f"/api/whoami-v2?{name}={mallory}").status_code == 400
    assert mallory not in (running_hub.home / "hub.log").read_text()
