"""What a hub takes from one client: sizes, slowness, rates, names. A real server with small limits, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kept import kept_by
from pushing import batch, commit, make_repo, small
from running_hub import RunningHub
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.server.hub.app import make_hub_app
from nomoat.server.hub.hub import Hub, HubConfig, Limits
from nomoat.server.hub.serving import first_token, uvicorn_config
from nomoat.server.listening import GracefulServer, listen_at, url_of
from nomoat.share.registry.registry import Registry, RegistryConfig

StartHub = Callable[..., tuple[str, str]]


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[StartHub]:
    """Starts a hub with limits of the test's own; gives its address and a token."""
    with contextlib.ExitStack() as stack:

        def start(files_url: str = "", **limits: Any) -> tuple[str, str]:
            registry = stack.enter_context(contextlib.closing(Registry(RegistryConfig(tmp_path))))
            token = first_token(registry) or ""
            listener = stack.enter_context(listen_at("127.0.0.1", 0))
            config = HubConfig(files_url=files_url, limits=Limits(**limits))
            server = _Server(uvicorn_config(Hub(registry, config)), lambda: None)
            thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
            thread.start()

            def end() -> None:
                server.should_exit = server.force_exit = True
                thread.join()

            stack.callback(end)
            return url_of("127.0.0.1", listener), token

        yield start


class _Server(GracefulServer):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # not in a thread


def _hub(url: str, token: str, home: Path) -> RunningHub:
    return RunningHub(url, None, home, token)  # type: ignore[arg-type]


def test_large_files_go_up_in_parts(start_hub: StartHub, tmp_path: Path) -> None:
    url, token = start_hub(multipart_above_bytes=1_000_000, part_bytes=400_000)
    hub = _hub(url, token, tmp_path)
    hub.run_client("hf_scripts", "push_in_parts")
    assert not list((tmp_path / "uploads").iterdir())  # the parts are gone, the file is there


def test_a_part_that_was_never_sent_is_missed(start_hub: StartHub, tmp_path: Path) -> None:
    url, token = start_hub(multipart_above_bytes=10, part_bytes=10)
    hub = _hub(url, token, tmp_path)
    make_repo(hub, token, "admin/parts")
    body = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": "0" * 64, "size": 25}],
    }
    answer = hub.post("/admin/parts.git/info/lfs/objects/batch", body, token).json()
    upload = answer["objects"][0]["actions"]["upload"]
    assert answer["transfer"] == "multipart" and set(upload["header"]) == {"chunk_size", "1", "2", "3"}
    assert httpx.put(upload["header"]["1"], content=bytes(10)).status_code == 200
    assert httpx.put(upload["header"]["3"], content=bytes(6)).status_code == 413  # the last one has 5 bytes
    assert httpx.put(upload["header"]["2"], content=bytes(9)).status_code == 400
    missing = httpx.post(upload["href"], json={"oid": "0" * 64, "parts": []})
    assert missing.status_code == 422 and "part 2 of 3" in missing.json()["error"]
    for number, size in ((2, 10), (3, 5)):
        assert httpx.put(upload["header"][str(number)], content=bytes(size)).status_code == 200
    assert httpx.post(upload["href"], json={}).status_code == 422  # whose sha256 is another one


def test_a_client_that_stops_in_the_middle_is_let_go(start_hub: StartHub, tmp_path: Path) -> None:
    url, token = start_hub(part_seconds=0.4)
    hub = _hub(url, token, tmp_path)
    make_repo(hub, token, "admin/slow")
    href = batch(hub, token, "admin/slow", "0" * 64, 1000).json()["objects"][0]["actions"]["upload"]["href"]
    with _connected(url) as connection:
        connection.sendall(
            f"PUT {httpx.URL(href).path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx".encode()
        )
        assert _answer(connection).startswith(b"HTTP/1.1 408")
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


def test_a_client_that_dawdles_is_let_go(
    start_hub: StartHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, token = start_hub(part_seconds=0.5, slowest_bytes_per_second=10_000)
    hub = _hub(url, token, tmp_path)
    make_repo(hub, token, "admin/slow")
    href = batch(hub, token, "admin/slow", "0" * 64, 1000).json()["objects"][0]["actions"]["upload"]["href"]

    before = kept_by(tmp_path)

    def trickle() -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.1)
            yield b"x"

    answer = httpx.put(href, content=trickle(), headers={"Content-Length": "1000"})
    assert answer.status_code == 408 and "slowly" in answer.json()["error"]
    assert "comes too slowly" in caplog.text and kept_by(tmp_path) == before


def test_too_many_requests_are_told_when_to_come_again(start_hub: StartHub) -> None:
    url, token = start_hub(requests_per_minute=30)
    answers = [httpx.get(f"{url}/health") for _ in range(32)]
    assert [answer.status_code for answer in answers[:30]] == [200] * 30
    assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) >= 1
    # Somebody with a token of their own is not held up.
    assert httpx.get(f"{url}/health", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_bodies_have_a_size(start_hub: StartHub, tmp_path: Path) -> None:
    url, token = start_hub(json_bytes=1000, commit_bytes=3000, regular_bytes=100)
    hub = _hub(url, token, tmp_path)
    make_repo(hub, token, "admin/sizes")
    assert hub.post("/api/repos/create", {"name": "x" * 2000}, token).status_code == 413
    assert commit(hub, token, "admin/sizes", small("a", bytes(4000))).status_code == 413
    assert commit(hub, token, "admin/sizes", small("a", bytes(101))).status_code == 413
    assert commit(hub, token, "admin/sizes", small("a", bytes(100))).status_code == 200

    def chunked() -> Iterator[bytes]:
        yield from (b" " * 500 for _ in range(10))

    assert hub.request("POST", "/api/validate-yaml", token, content=chunked()).status_code == 413


@pytest.mark.parametrize("head", [b"X-Long: " + b"x" * 100_000 + b"\r\n", b"X-Many: y\r\n" * 8_000,
                                  b"X-Endless: " + b"x" * 70_000])  # fmt: skip
def test_a_head_that_is_too_long_is_refused(running_hub: RunningHub, head: bytes) -> None:
    with _connected(running_hub.url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + head)
        answer = _answer(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer[:100]
    assert running_hub.get("/health").status_code == 200


def test_a_long_address_is_refused(running_hub: RunningHub) -> None:
    with _connected(running_hub.url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _answer(connection).startswith((b"HTTP/1.1 400", b"HTTP/1.1 414"))


@pytest.mark.parametrize("query", ["token=hf_abc", "access_token=x", "x=hf_" + "a" * 40, "a=1&HF_TOKEN=z"])
def test_a_token_in_an_address_is_refused_and_not_logged(running_hub: RunningHub, query: str) -> None:
    answer = running_hub.get(f"/api/models?{query}")
    assert answer.status_code == 400 and "no place in an address" in answer.json()["error"]
    assert "hf_a" not in answer.text and "hf_a" not in (running_hub.home / "hub.log").read_text()


def test_the_second_origin_serves_files_and_nothing_else(start_hub: StartHub, tmp_path: Path) -> None:
    url, token = start_hub(files_url="http://files.example")
    hub = _hub(url, token, tmp_path)
    make_repo(hub, token, "admin/shown")
    assert commit(hub, token, "admin/shown", small("a.txt", b"a")).status_code == 200
    there = {"Host": "files.example"}
    assert hub.get("/admin/shown/resolve/main/a.txt", headers=there).content == b"a"
    assert hub.get("/api/models/admin/shown", headers=there).status_code == 404


def test_foreign_names_and_pages_are_turned_away(running_hub: RunningHub, alice: str) -> None:
    assert running_hub.get("/health", headers={"Host": "evil.example"}).status_code == 403
    own = running_hub.url
    for origin, status in (("http://evil.example", 403), ("null", 403), (own, 401)):
        answer = running_hub.post("/api/repos/create", {"name": "x"}, headers={"Origin": origin})
        assert answer.status_code == status, origin
    assert running_hub.get("/api/models", headers={"Origin": "http://evil.example"}).status_code == 200
    assert "access-control-allow-origin" not in running_hub.get("/api/models").headers


@contextlib.contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        yield connection


def _answer(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def test_a_fault_is_logged_with_the_number_that_the_client_gets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(request: Request) -> Response:
        raise ZeroDivisionError("secret details")

    async def answer() -> httpx.Response:
        with contextlib.closing(Registry(RegistryConfig(tmp_path))) as registry:
            app = make_hub_app(Hub(registry), [Route("/fault", fault)])
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.get("/fault")

    found = asyncio.run(answer())
    assert found.status_code == 500 and found.json()["code"] == "internal" and "secret" not in found.text
    assert f"request {found.headers['x-request-id']}" in caplog.text and "secret details" in caplog.text
