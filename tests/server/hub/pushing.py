"""Pushing without a client library, request by request: for what a well-behaved client would not do."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import httpx
from running_hub import RunningHub

__all__ = ["batch", "commit", "commit_files", "large", "lfs_file", "make_repo", "push_large", "small"]


def make_repo(hub: RunningHub, token: str, name: str, **more: Any) -> str:
    owner, _, short = name.partition("/")
    answer = hub.post(
        "/api/repos/create", {"name": short, "organization": owner, "type": "model", **more}, token
    )
    assert answer.status_code == 200, answer.text
    return name


def small(path: str, content: bytes) -> dict[str, Any]:
    return {
        "key": "file",
        "value": {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"},
    }


def large(path: str, content: bytes) -> dict[str, Any]:
    return lfs_file(path, hashlib.sha256(content).hexdigest(), len(content))


def lfs_file(path: str, oid: str, size: int) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": size}}


def commit(
    hub: RunningHub,
    token: str | None,
    repo: str,
    *changes: dict[str, Any],
    parent: str | None = None,
    branch: str = "main",
) -> httpx.Response:
    header: dict[str, Any] = {"summary": "a change", **({"parentCommit": parent} if parent else {})}
    lines = [{"key": "header", "value": header}, *changes]
    body = "\n".join(json.dumps(line) for line in lines)
    return hub.request("POST", f"/api/models/{repo}/commit/{branch}", token, content=body)


def commit_files(hub: RunningHub, token: str, repo: str, **files: bytes) -> str:
    answer = commit(
        hub, token, repo, *(small(path.replace("__", "."), content) for path, content in files.items())
    )
    assert answer.status_code == 200, answer.text
    oid: str = answer.json()["commitOid"]
    return oid


def batch(hub: RunningHub, token: str | None, repo: str, oid: str, size: int) -> httpx.Response:
    body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
    return hub.post(f"/{repo}.git/info/lfs/objects/batch", body, token)


def push_large(hub: RunningHub, token: str, repo: str, path: str, content: bytes) -> str:
    """Send and commit a large file; its digest."""
    oid = hashlib.sha256(content).hexdigest()
    [answer] = batch(hub, token, repo, oid, len(content)).json()["objects"]
    if "actions" in answer:
        sent = httpx.put(answer["actions"]["upload"]["href"], content=content, timeout=60)
        assert sent.status_code == 200, sent.text
    made = commit(hub, token, repo, lfs_file(path, oid, len(content)))
    assert made.status_code == 200, made.text
    return f"sha256:{oid}"
