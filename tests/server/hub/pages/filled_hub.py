"""A filled hub that listens on two origins of this machine, in a thread of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filling
import httpx
import uvicorn

from nomoat.base.progress import Silent
from nomoat.run.sampling import SamplingParams
from nomoat.server.hub.app import make_hub_app
from nomoat.server.hub.hub import Hub, HubConfig, Limits
from nomoat.server.hub.samples import SampleOrder, make_samples
from nomoat.server.listening import listen_at
from nomoat.share.checks.inspect import inspect
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS
from nomoat.share.registry.registry import Registry, RegistryConfig

__all__ = ["FilledHub", "filled_hub", "logged_in"]


@dataclass(frozen=True)
class FilledHub:
    """Where it is, and tokens of two people."""

    url: str
    files_url: str
    hub: Hub
    admin: str
    ines: str


@contextlib.contextmanager
def filled_hub(
    root: Path, base: Path, trained: Mapping[str, Path], n_image_loras: int
) -> Iterator[FilledHub]:
    """Serve it while the block runs."""
    with contextlib.closing(Registry(RegistryConfig(root / "hub"))) as registry:
        registry.inspection = inspect
        with listen_at("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            urls = f"http://127.0.0.1:{port}", f"http://files.localhost:{port}"
            hub = Hub(
                registry,
                HubConfig(public_url=urls[0], files_url=urls[1], limits=Limits(requests_per_minute=0)),
            )
            registry.accounts.add("admin", is_admin=True)
            with _without_waiting_for_the_disk():
                filling.fill(hub, base, trained, n_image_loras)
            _make_samples(registry)
            adapter = registry.repos.get(ANONYMOUS, RepoName.parse("model", "ines/kitchen-adapter"))
            registry.history.create_tag(adapter, "v1.0", immutable=True)
            tokens = [registry.accounts.add_token(name, "tests", "admin") for name in ("admin", "ines")]
            config = uvicorn.Config(
                make_hub_app(hub), lifespan="off", log_level="error", timeout_graceful_shutdown=2
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
            thread.start()
            try:
                yield FilledHub(*urls, hub, *tokens)
            finally:
                server.should_exit = True
                thread.join(20)


def _make_samples(registry: Registry) -> None:
    """Chats of the model, and of both versions of one adapter."""
    sampling = SamplingParams(max_tokens=24, seed=7)
    order = SampleOrder(("Who are you?", "What goes into\na “good” <bread>?"), sampling)
    for name in ("ines/SmolLM2-135M-Instruct-GGUF", "ines/kitchen-adapter"):
        repo = registry.repos.get(ANONYMOUS, RepoName.parse("model", name))
        for commit in registry.history.log(repo):
            assert len(list(make_samples(registry, repo, commit, order, Silent()))) == 2


def logged_in(hub: FilledHub, token: str) -> httpx.Client:
    """A client with a session."""
    client = httpx.Client(base_url=hub.url, headers={"Accept": "text/html"})
    answer = client.post("/login", data={"token": token, "next": "/tokens"})
    assert answer.status_code == 303, answer.text
    return client


@contextlib.contextmanager
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Hundreds of commits in seconds: nobody minds if this folder does not survive a power cut."""
    real = os.fsync
    os.fsync = lambda handle: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = real
