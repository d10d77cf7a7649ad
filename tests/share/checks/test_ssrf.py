"""An address from somebody else leads to the public internet or nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nomoat.share.checks.ssrf import check_address, guarded_client
from nomoat.share.errors import RefusedError

PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
           "224.0.0.1",
           "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
           "::127.0.0.1",
    "64:ff9b::7f00:1", "2002:7f00:1::"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    with pytest.raises(RefusedError):
        check_address(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses(address: str) -> None:
    check_address(address)


class Redirecting(BaseHTTPRequestHandler):
    """Sends everybody who asks for /to/X to X, and notes who asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"], self.headers.get("Authorization")))  # type: ignore[attr-defined]
        target = self.path.removeprefix("/to/")
        if target != self.path:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Redirecting) as found:
        found.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_a_redirect_leads_into_no_private_network(server: HTTPServer) -> None:
    base = f"http://localhost:{server.server_port}"
    with guarded_client(allowed_hosts=["localhost"]) as client:
        assert client.get(f"{base}/x").text == "here"
        for target in (
            f"http://127.0.0.1:{server.server_port}/secret",
            "http://[::1]/",
            "http://169.254.169.254/latest",
        ):
            with pytest.raises(RefusedError, match="public internet"):
                client.get(f"{base}/to/{target}")
        with pytest.raises(RefusedError, match="scheme"):
            client.get(f"{base}/to/ftp://1.1.1.1/x")
    assert [path for path, _, _ in server.asked if path == "/secret"] == []  # type: ignore[attr-defined]


def test_one_private_address_among_public_ones_is_enough() -> None:
    with (
        guarded_client(resolve=lambda host, port: ["1.1.1.1", "127.0.0.1"]) as client,
        pytest.raises(RefusedError),
    ):
        client.get("http://rebinding.example/")


def test_a_token_stays_with_its_host(server: HTTPServer) -> None:
    port = server.server_port
    with guarded_client(allowed_hosts=["localhost", "127.0.0.1"]) as client:
        client.get(
            f"http://localhost:{port}/to/http://127.0.0.1:{port}/y", headers={"Authorization": "Bearer t"}
        )
    assert [token for _, _, token in server.asked] == ["Bearer t", None]  # type: ignore[attr-defined]
