"""Servers side by side: nomoat's and llama.cpp's, each a process of its own that answers over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.settings import Settings
from nomoat.run.threads import usable_cores
from nomoat.store.embedded import find_embedded, missing_embedded

__all__ = ["CONTEXT_TOKENS", "Server", "embedded_model", "llama_server", "nomoat_server"]

CONTEXT_TOKENS = 8192
_START_SECONDS = 120.0
# At its first start with a model nomoat measures the machine in quiet moments, and keeps what it finds for later ones.
# Servers that start meanwhile, and requests that come at once, would be what nobody has at the second start.
_FIRST_SECONDS = 4.0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A server that answers OpenAI's API at `url` under the model name `model`.

    `counts_end` is whether its usage counts the token by which the model ends its answer.
    """

    name: str
    url: str
    model: str
    pid: int
    counts_end: bool = False


def embedded_model() -> Path:
    """The embedded model as shipped: the one file that both sides serve unless told otherwise."""
    path = find_embedded(Settings.from_environment())
    if path is None:
        raise missing_embedded()
    return path


@contextmanager
def nomoat_server(
    model: Path, home: Path, *options: str, threads: int | None = None, name: str = "nomoat"
) -> Iterator[Server]:
    """`nomoat serve MODEL` with a store of its own at `home`; None leaves the threads to nomoat."""
    environment = {**os.environ, "NOMOAT_HOME": str(home), "PYTHONPATH": str(_ROOT / "src")}
    environment.pop("NOMOAT_THREADS", None)
    if threads is not None:
        environment["NOMOAT_THREADS"] = str(threads)
    argv = [sys.executable, "-P", "-m", "nomoat.cli.main", "serve", str(model), "--port", "0", "--json",
            "--context-length", str(CONTEXT_TOKENS), *options]  # fmt: skip
    with _process(argv, environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("nomoat serve ended before it was ready")
        ready = json.loads(line)
        time.sleep(_FIRST_SECONDS)
        yield Server(name, ready["url"], ready["models"][0], process.pid)


@contextmanager
def llama_server(
    program: Path, model: Path, *options: str, threads: int | None = None, name: str = "llama-server"
) -> Iterator[Server]:
    """llama.cpp's server with its default flags, but for `options`, the threads and the context."""
    port = _free_port()
    count = threads or usable_cores()
    argv = [str(program), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-t", str(count),
            "-c", str(CONTEXT_TOKENS), *options]  # fmt: skip
    with _process(argv, dict(os.environ), stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process)
        yield Server(name, url, "default", process.pid, counts_end=True)


@contextmanager
def _process(
    argv: Sequence[str], environment: dict[str, str], stdout: int
) -> Iterator[subprocess.Popen[str]]:
    """A server until the end of the block: asked to end, then waited for. Shows its log where it fails."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(argv, env=environment, stdout=stdout, stderr=log, text=True)
        try:
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-3000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not become ready")
