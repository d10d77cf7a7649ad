"""Peers for tests: real `nomoat share` processes, and servers that lie, dawdle or fall silent."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from nomoat.base.progress import Silent
from nomoat.server.lan.app import make_lan_app
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.lan.blocks import SUM_BYTES, Shelf, block_sum
from nomoat.share.lan.offers import Offer
from nomoat.share.things import find_thing
from nomoat.store.store import Store

__all__ = [
    "Sharing",
    "offer_from",
    "served",
    "shelf_of",
    "started",
]


def shelf_of(store: Store, *names: str, kind: type[Shelf] = Shelf) -> Shelf:
    """A shelf with these things of the store."""
    return kind([find_thing(store, name, Silent()) for name in names], store.home, Silent())


class Liar(Shelf):
    """Sends right checksums and wrong blocks, from the third on."""

    def read_block(self, digest: str, index: int) -> bytes:
        block = super().read_block(digest, index)
        return block if index < 2 else bytes([block[0] ^ 1]) + block[1:]


class ConsistentLiar(Shelf):
    """Has another file under that digest, and says so consistently: only the sha256 of the whole tells."""

    def sums(self, digest: str) -> bytes:
        count = len(super().sums(digest)) // SUM_BYTES
        return b"".join(block_sum(self._wrong(digest, index)) for index in range(count))

    def read_block(self, digest: str, index: int) -> bytes:
        return self._wrong(digest, index)

    def _wrong(self, digest: str, index: int) -> bytes:
        """Every third block has a wrong byte."""
        path = self._sources[digest]
        with path.open("rb") as handle:
            handle.seek(index * BLOCK_BYTES)
            block = handle.read(BLOCK_BYTES)
        return block if index % 3 else bytes([block[0] ^ 1]) + block[1:]


class Slow(Shelf):
    """Needs a third of a second for a block."""

    def read_block(self, digest: str, index: int) -> bytes:
        time.sleep(0.33)
        return super().read_block(digest, index)


class Mute(Shelf):
    """Answers with its checksums and its first block, and then says nothing for longer than anyone waits."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.wake = threading.Event()

    def read_block(self, digest: str, index: int) -> bytes:
        if index:
            self.wake.wait(30)
        return super().read_block(digest, index)


@contextlib.contextmanager
def served(shelf: Shelf, name: str) -> Iterator[str]:
    """The shelf's URL on 127.0.0.1; it is served by the real application in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(make_lan_app(shelf), log_config=None, log_level="critical", lifespan="off",
                                timeout_graceful_shutdown=1)  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            if isinstance(shelf, Mute):
                shelf.wake.set()
            server.should_exit = True
            thread.join(10)


def offer_from(store: Store, name: str, peer: str, url: str) -> Offer:
    """What a peer that has that thing would announce."""
    thing = find_thing(store, name, Silent()).thing
    return Offer(thing.name, thing.kind, thing.digest, thing.size_bytes, peer, url)


@dataclass
class Sharing:
    """A `nomoat share` process."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    log: Path

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@contextlib.contextmanager
def started(home: Path, *arguments: str) -> Iterator[Sharing]:
    """`nomoat share ... --host 127.0.0.1 --json`, ready."""
    environment = {**os.environ, "NOMOAT_HOME": str(home), "NOMOAT_EMBEDDED_MODEL": str(home / "absent.gguf")}
    argv = [sys.executable, "-m", "nomoat.cli.main", "share", *arguments, "--host", "127.0.0.1", "--json"]
    log = home / "share.log"
    with log.open("a") as errors:
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 30)
        line = process.stdout.readline() if readable else ""
        assert line, log.read_text()
        yield Sharing(process, json.loads(line), log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()
