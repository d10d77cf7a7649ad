"""A real server process and how tests speak to it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from nomoat.base.digests import sha256_file
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora

__all__ = ["CONTEXT_TOKENS", "RunningServer", "StartServer", "started", "usual_options", "write_adapter"]

CONTEXT_TOKENS = 1024
_WIDTH, _KV_WIDTH = 576, 192


@dataclass
class RunningServer:
    """A server process and how to reach it."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path
    ready: dict[str, Any]

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path: str, content: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=content, timeout=60, **options)

    def figure(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.get("/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name
        )

    def wait_until_idle(self) -> None:
        """Return once no answer is on its way; fail after a while."""
        deadline = time.monotonic() + 30
        while self.figure("nomoat_answers_running"):
            assert time.monotonic() < deadline, "an answer goes on that nobody reads"
            time.sleep(0.05)


StartServer = Callable[..., RunningServer]


def usual_options(adapter: Path) -> list[str]:
    """Of servers that many tests share: the embedded model, and beside it `adapter` under the name "me"."""
    return [
        "smollm2", "--port", "0", "--context-length", str(CONTEXT_TOKENS), "--adapter", f"me={adapter}",
    ]  # fmt: skip


@contextlib.contextmanager
def started(model: Path, home: Path, *arguments: str) -> Iterator[RunningServer]:
    environment = {
        **os.environ, "NOMOAT_HOME": str(home), "NOMOAT_EMBEDDED_MODEL": str(model),
        "NOMOAT_EMBEDDED": "as-shipped", "NOMOAT_THREADS": "1", "NO_COLOR": "1",
    }  # fmt: skip
    argv = [sys.executable, "-m", "nomoat.cli.main", "serve", *arguments, "--json"]
    with (home / "serve.log").open("ab") as log:
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 120)
        line = process.stdout.readline() if readable else b""
        assert line, (home / "serve.log").read_text()
        ready = json.loads(line)
        yield RunningServer(ready["url"], process, home, ready)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def write_adapter(model: Path, path: Path, seed: int) -> Path:
    """A random adapter for a few blocks, strong enough to be seen."""
    random = np.random.default_rng(seed)
    modules = {}
    for block in range(4):
        for part, rows in (("attn_q", _WIDTH), ("attn_v", _KV_WIDTH)):
            a = random.normal(0, 0.4, (4, _WIDTH)).astype(np.float32)
            b = random.normal(0, 0.4, (rows, 4)).astype(np.float32)
            modules[f"blk.{block}.{part}.weight"] = (a, b)
    write_gguf_lora(LoraAdapter(sha256_file(model), "llama", 4, 4.0, modules, 9, 3), path)
    return path
