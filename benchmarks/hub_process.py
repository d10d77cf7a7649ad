"""Hubs and registries for benchmarks, each a process of its own on this machine, and what counts bytes between."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Hub", "Relay", "docker_registry", "nomoat_hub", "rss_bytes"]

_SOURCE = Path(__file__).resolve().parent.parent / "src"


@dataclass(frozen=True)
class Hub:
    """A hub that answers. `environment` is for its clients."""

    url: str
    pid: int
    token: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """For nomoat's clients and those of Hugging Face."""
        own = {"NOMOAT_HOME": str(self.home / "client"), "HF_HOME": str(self.home / "hf"), "HF_ENDPOINT": self.url,
               "HF_TOKEN": self.token, "PYTHONPATH": str(_SOURCE), "HF_HUB_DISABLE_TELEMETRY": "1",
               "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}  # fmt: skip
        return {**os.environ, **own}


@contextlib.contextmanager
def nomoat_hub(home: Path, token: str = "") -> Iterator[Hub]:
    """`nomoat hub serve` in `home`; `token` of a hub that was there already."""
    argv = [sys.executable, "-P", "-m", "nomoat.cli.main", "hub", "serve", "--root", str(home / "hub"),
            "--rate", "0", "--json"]  # fmt: skip
    environment = {**os.environ, "NOMOAT_HOME": str(home), "PYTHONPATH": str(_SOURCE)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield Hub(ready["url"], ready["pid"], ready.get("admin_token", token), home)
        finally:
            process.terminate()


@contextlib.contextmanager
def docker_registry(program: str, folder: Path) -> Iterator[str]:
    """Debian's docker-registry with its files in `folder`; its host and port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
                      f"http: {{addr: '{address}'}}\n")  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen([program, "serve", str(config)], stderr=log,
                                                               stdout=log) as process:  # fmt: skip
        try:
            _wait_for(address)
            yield address
        finally:
            process.terminate()


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, at its highest so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Relay:
    """Passes connections on to a hub and counts what clients send."""

    def __init__(self, url: str) -> None:
        self._target = url.removeprefix("http://").split(":")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            hub = socket.create_connection((self._target[0], int(self._target[1])))
            threading.Thread(target=self._pass, args=(client, hub, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(hub, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 18):
                self.sent_bytes += len(part) * counted
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)


def _wait_for(address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
