"""Pages of a hub whose files are in a bucket: reading, pictures, and a download that leads to the bucket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from browser import Browser
from drawing import picture

from nomoat.formats.safetensors_file import safetensors_bytes
from nomoat.server.hub.app import make_hub_app
from nomoat.server.hub.commits import CommitRequest, LargeFile, SmallFile, apply_commit
from nomoat.server.hub.hub import Hub, HubConfig
from nomoat.server.listening import listen_at
from nomoat.share.checks.inspect import inspect
from nomoat.share.names import RepoName
from nomoat.share.registry.registry import Registry, RegistryConfig
from own_servers import ObjectServer


@dataclass(frozen=True)
class _BucketHub:
    url: str
    weights: bytes
    note: bytes


@pytest.fixture(scope="module")
def bucket_hub(s3: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_BucketHub]:
    """A hub on a bucket with weights of some size, a small file and a picture."""
    np = pytest.importorskip("numpy")
    weights = safetensors_bytes({"layer.w": np.frombuffer(os.urandom(1_200_000), np.float16)}, {})
    note = b"a small file"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        config = RegistryConfig(tmp_path_factory.mktemp("bucket-pages") / "hub", bucket_url="s3://hub/pages")
        registry = Registry(config)
    with contextlib.closing(registry), listen_at("127.0.0.1", 0) as listener:
        registry.inspection = inspect
        port = listener.getsockname()[1]
        url, files_url = f"http://127.0.0.1:{port}", f"http://files.localhost:{port}"
        hub = Hub(registry, HubConfig(public_url=url, files_url=files_url))
        _fill(hub, weights, note)
        server = uvicorn.Server(uvicorn.Config(make_hub_app(hub), lifespan="off", log_level="error"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield _BucketHub(url, weights, note)
        finally:
            server.should_exit = True
            thread.join(20)


def _fill(hub: Hub, weights: bytes, note: bytes) -> None:
    registry = hub.registry
    registry.accounts.add("ines")
    who = registry.accounts.identity("ines", "write")
    info = registry.blobs.add(weights)
    registry.claims.note_sent(who.user_id, info)
    repo = registry.repos.create(who, RepoName.parse("model", "ines/far"))
    operations = [
        LargeFile("größe.safetensors", info.digest, info.size_bytes), SmallFile("note.txt", note),
        SmallFile("pictures/01.png", picture(7, "hills", large=False, style=1)),
        SmallFile("README.md", b"---\nlicense: mit\n---\n# Far\n\nKept in a bucket.\n"),
    ]  # fmt: skip
    apply_commit(hub, who, repo, "main", CommitRequest("First version", "", None, list(operations)))


@pytest.mark.parametrize(
    "path", ["", "/tree/main", "/blob/main/gr%C3%B6%C3%9Fe.safetensors", "/blob/main/pictures/01.png"]
)
def test_pages_ask_nothing_of_the_bucket(page: Browser, bucket_hub: _BucketHub, path: str) -> None:
    page.open(f"{bucket_hub.url}/ines/far{path}")
    page.script("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
    page.wait_until("[...document.images].every(each => each.complete)")
    asked = {urlsplit(e["params"]["request"]["url"]).hostname for e in page.events
             if e.get("method") == "Network.requestWillBeSent"}  # fmt: skip
    assert asked <= {"127.0.0.1", "files.localhost"} and _ports(page) == {urlsplit(bucket_hub.url).port}
    assert all(page.script("[...document.images].filter(each => each.src).map(each => each.naturalWidth)"))
    assert _complaints(page) == []
    if path.endswith("safetensors"):
        assert page.script("document.querySelectorAll('#tensors tbody tr').length") == 1


@pytest.mark.parametrize(
    ("path", "name"), [("gr%C3%B6%C3%9Fe.safetensors", "größe.safetensors"), ("note.txt", "note.txt")]
)
def test_a_download_keeps_its_name_and_bytes(
    page: Browser, bucket_hub: _BucketHub, tmp_path: Path, path: str, name: str
) -> None:
    leads_away = httpx.get(f"{bucket_hub.url}/ines/far/resolve/main/{path}").status_code == 302
    assert leads_away is (name != "note.txt")
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.open(f"{bucket_hub.url}/ines/far/blob/main/{path}")
    page.script("document.querySelector('a[download]').click()")
    end = time.monotonic() + 15
    while not (tmp_path / name).exists() and time.monotonic() < end:
        page.script("1")
        time.sleep(0.05)
    assert [each.name for each in tmp_path.iterdir()] == [name], _complaints(page)
    assert (tmp_path / name).read_bytes() == (bucket_hub.note if name == "note.txt" else bucket_hub.weights)
    assert _complaints(page) == []


def _ports(page: Browser) -> set[int | None]:
    return {urlsplit(e["params"]["request"]["url"]).port for e in page.events
            if e.get("method") == "Network.requestWillBeSent"}  # fmt: skip


def _complaints(page: Browser) -> list[object]:
    return [
        e["params"] for e in page.events if e.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}
    ]
