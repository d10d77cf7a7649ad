"""A hub that knows nothing of releases, as Hugging Face's own: a real one behind a proxy that drops the word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

__all__ = ["ordinary_hub"]

_PASSED_ON = {
    "content-type", "content-range", "etag", "link", "location", "x-error-code", "x-error-message", "x-repo-commit",
}  # fmt: skip


@contextmanager
def ordinary_hub(url: str) -> Iterator[str]:
    """The host of a server that passes on to the hub at `url`, and from it, all but `immutable`."""

    class Handler(_Handler):
        client = httpx.Client(base_url=url, timeout=60)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        Handler.client.close()


class _Handler(BaseHTTPRequestHandler):
    client: httpx.Client

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
        answer = self.client.request(self.command, self.path, headers=headers, content=_without(body))
        content = _without(answer.content)
        self.send_response(answer.status_code)
        for name in _PASSED_ON:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _without(body: bytes) -> bytes:
    """JSON as it would be where nobody had thought of immutable tags; anything else as it is."""
    if b'"immutable"' not in body:
        return body

    def plain(value: dict[str, Any]) -> dict[str, Any]:
        return {name: each for name, each in value.items() if name != "immutable"}

    return json.dumps(json.loads(body, object_hook=plain)).encode()
