"""A hub that misbehaves on demand: real HTTP on the loopback, Hugging Face's read protocol, files in memory."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

__all__ = ["Seen", "SmallHub", "running"]

COMMIT = "c" * 40
_LARGE_BYTES = 100_000


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class SmallHub:
    """What the hub holds, and how it lies. `before` may answer a request instead of the hub."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    ranges: bool = True
    announced: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: Callable[[Any], bool] = lambda handler: False
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def requests(self, part: str) -> list[Seen]:
        """Those whose path holds `part`."""
        return [seen for seen in self.seen if part in seen.path]

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        size = len(content)
        git = hashlib.sha1(f"blob {size}\0".encode() + content).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": git}
        if size >= _LARGE_BYTES:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}
        return {**entry, **self.announced.get(path, {})}


@contextmanager
def running(hub: SmallHub) -> Iterator[SmallHub]:
    """Serve `hub` on a port of its own."""

    class Handler(_Handler):
        small_hub = hub

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    small_hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.small_hub
        hub.seen.append(Seen("GET", self.path, dict(self.headers)))
        try:
            if not hub.before(self):
                self._answer(unquote(self.path).split("?")[0])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def json(self, content: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(content).encode(), status, **headers)

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, path: str) -> None:
        hub = self.small_hub
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree|refs)/?(.*)", path)
        if match and match[1] in hub.repos:
            self._describe(match[1], match[2], match[3])
            return
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        content = hub.repos.get(match[1], {}).get(match[2]) if match else None
        if content is None:
            self.json({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
            return
        self.file(content)

    def _describe(self, repo: str, what: str, revision: str) -> None:
        hub = self.small_hub
        if what == "refs":
            self.json({"branches": [{"name": "main"}], "tags": [{"name": tag} for tag in hub.tags]})
        elif revision not in {"main", COMMIT, *hub.tags}:
            self.json({"error": "no such revision"}, 404, X_Error_Code="RevisionNotFound")
        elif what == "revision":
            self.json({"id": repo, "sha": COMMIT})
        else:
            self.json([hub.entry(path, content) for path, content in hub.repos[repo].items()])

    def file(self, content: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or not self.small_hub.ranges:
            self.send(content)
            return
        start, end = int(match[1]), min(int(match[2]) + 1, len(content))
        self.send(content[start:end], 206, Content_Range=f"bytes {start}-{end - 1}/{len(content)}")
