"""What is shared in the network, fetched by the clients that people have: huggingface_hub and llama.cpp."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lan_peers import Sharing, started
from made_things import filled_store, store_at
from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.settings import child_environment
from nomoat.store.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from llama_server import built_llama_server

_CLIENT = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
api, found = HfApi(), {}
found["models"] = [model.id for model in api.list_models()]
for name in ("lan/base-tiny", "lan/notes"):
    info = api.model_info(name)
    found[name] = {"folder": snapshot_download(name), "sha": info.sha,
                   "pinned": snapshot_download(name, revision=info.sha),
                   "files": sorted(api.list_repo_files(name))}
found["one"] = hf_hub_download("lan/notes", "adapter.gguf", local_dir=sys.argv[1])
for error, arguments in ((RepositoryNotFoundError, ("lan/hidden", "x")), (EntryNotFoundError, ("lan/notes", "x")),
                         (RevisionNotFoundError, ("lan/notes", "adapter.gguf", "v9"))):
    try:
        hf_hub_download(*arguments[:2], revision=(arguments + (None,))[2])
        raise SystemExit(f"{arguments} was found")
    except error:
        pass
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("shared"), "base:tiny")


@pytest.fixture(scope="module")
def sharing(store: Store) -> Iterator[Sharing]:
    with started(store.home, "base:tiny", "notes") as running:
        yield running


def _environment(sharing: Sharing, home: Path, **more: str) -> dict[str, str]:
    return child_environment(
        HF_ENDPOINT=sharing.url, HF_HOME=str(home / "hf"), HF_HUB_DISABLE_TELEMETRY="1", HF_TOKEN="",
        HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_UPDATE_CHECK="1", DO_NOT_TRACK="1", **more,
    )  # fmt: skip


def test_huggingface_hub_fetches_what_is_shared(sharing: Sharing, store: Store, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _CLIENT, str(tmp_path / "one")]
    done = subprocess.run(
        argv, env=_environment(sharing, tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["models"] == ["lan/base-tiny", "lan/notes"]
    model, notes = found["lan/base-tiny"], found["lan/notes"]
    [file] = Path(model["folder"]).iterdir()
    assert sha256_file(file) == store.resolve("base:tiny").digest and ".F32." in file.name
    things = {thing["name"]: thing for thing in httpx.get(f"{sharing.url}/things.json").json()["things"]}
    digests = {file["path"]: file["digest"] for file in things["notes"]["files"]}
    assert {path.name: sha256_file(path) for path in Path(notes["folder"]).iterdir()} == digests
    assert notes["files"] == sorted(digests) and notes["pinned"] == notes["folder"]
    assert sha256_file(Path(found["one"])) == digests["adapter.gguf"]


def test_ranges_and_heads_of_a_revision(sharing: Sharing, store: Store) -> None:
    with httpx.Client(base_url=sharing.url) as client:
        tree = client.get("/api/models/lan/base-tiny/tree/main", params={"recursive": "true"}).json()
        sha = client.get("/api/models/lan/base-tiny").json()["sha"]
        path = f"/lan/base-tiny/resolve/{sha}/{tree[0]['path']}"
        head = client.head(path)
        digest = store.resolve("base:tiny").digest
        assert head.headers["X-Repo-Commit"] == sha and head.headers["Accept-Ranges"] == "bytes"
        assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{digest.removeprefix("sha256:")}"'
        content = store.resolve("base:tiny").path.read_bytes()
        parts = [client.get(path, headers={"Range": r}) for r in ("bytes=0-999999", "bytes=1000000-")]
        assert [part.status_code for part in parts] == [206, 206]
        assert sha256_bytes(b"".join(part.content for part in parts)) == digest == sha256_bytes(content)
        assert client.get(path, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
        for wrong in (
            "/api/models/lan/hidden", "/api/models/me/notes", "/api/models/lan/notes/tree/v9",
            "/lan/notes/resolve/main/..%2f..%2fetc%2fpasswd", "/lan/notes/resolve/main/report.json",
        ):  # fmt: skip
            answer = client.get(wrong)
            assert answer.status_code == 404 and answer.headers["X-Error-Code"], wrong
        for write in ("/api/repos/create", "/api/models/lan/notes/commit/main"):
            assert client.post(write, json={}).status_code == 405


def test_llama_cpp_fetches_a_model_of_the_network(smollm2_path: Path, tmp_path: Path) -> None:
    program = built_llama_server()
    if program is None:
        pytest.skip("llama-server was not built: benchmarks/llama_server.py does")
    home = tmp_path / "home"
    store_at(home).import_file(smollm2_path, "smollm2")
    with started(home, "smollm2") as sharing, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        argv = [program, "-hf", "lan/smollm2:Q4_1", "--port", str(port), "-c", "256", "-t", "1", "--no-webui"]
        environment = _environment(sharing, tmp_path, LLAMA_CACHE=str(tmp_path / "cache"))
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [os.fspath(each) for each in argv], env=environment, stdout=log, stderr=log
            )
        try:
            assert _content(process, port), (tmp_path / "log").read_text(errors="replace")[-4000:]
        finally:
            process.kill()
            process.wait()
    fetched = [path for folder in ("cache", "hf") for path in (tmp_path / folder).rglob("*.gguf")]
    assert fetched and all(sha256_file(path) == sha256_file(smollm2_path) for path in fetched)


def _content(process: subprocess.Popen[bytes], port: int) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            body = {"prompt": "The sea", "n_predict": 3}
            answer = httpx.post(f"http://127.0.0.1:{port}/completion", json=body, timeout=30)
            if answer.status_code == 200:
                return str(answer.json()["content"])
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return ""
