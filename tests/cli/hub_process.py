"""A hub and its users as processes of their own: the verbs as people type them."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.digests import sha256_file
from nomoat.base.manifests import write_manifest
from nomoat.base.settings import child_environment
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.peft_folder import write_peft

__all__ = ["NOMOAT", "HubProcess", "Person", "at_terminal", "new_user", "running_hub", "write_adapter_folder"]

NOMOAT = [sys.executable, "-m", "nomoat.cli.main"]


@dataclass(frozen=True)
class HubProcess:
    """A hub that runs."""

    url: str
    admin_token: str
    root: Path
    pid: int

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def running_hub(root: Path) -> Iterator[HubProcess]:
    """Start `nomoat hub serve` on a free port; it ends with the block."""
    argv = [*NOMOAT, "hub", "serve", "--root", str(root), "--port", "0", "--json"]
    environment = child_environment(NOMOAT_HOME=str(root / "home"))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield HubProcess(ready["url"], ready["admin_token"], root, ready["pid"])
        finally:
            process.terminate()


def new_user(hub: HubProcess, name: str) -> str:
    """Add somebody to the hub; returns their token."""
    environment = child_environment(NOMOAT_HOME=str(hub.root / "home"))
    argv = [*NOMOAT, "hub", "user", "add", name, "--root", str(hub.root), "--json"]
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    argv = [*NOMOAT, "hub", "token", "add", name, "--root", str(hub.root), "--scope", "write", "--json"]
    made = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    return str(json.loads(made.stdout)["token"])


class Person:
    """Somebody with a store of their own."""

    def __init__(self, home: Path, embedded: Path) -> None:
        self.home = home
        self.environment = child_environment(
            NOMOAT_HOME=str(home), NOMOAT_EMBEDDED_MODEL=str(embedded), NOMOAT_EMBEDDED="as-shipped",
            NOMOAT_THREADS="1", NOMOAT_KV_CACHE="off", NOMOAT_HISTORY="off", NO_COLOR="1", COLUMNS="200",
            HF_TOKEN="", HF_HOME=str(home / "hf"), HF_HUB_DISABLE_TELEMETRY="1",
        )  # fmt: skip

    def run(
        self, *arguments: str | Path, status: int = 0, typed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}
        done = subprocess.run(
            [*NOMOAT, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            **given,
        )
        assert done.returncode == status, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str | Path, status: int = 0, typed: str | None = None) -> dict[str, Any]:
        (line,) = self.run(*arguments, "--json", status=status, typed=typed).stdout.splitlines()
        content = json.loads(line)
        assert isinstance(content, dict)
        return content

    def login(self, hub: HubProcess, token: str = "") -> None:
        assert (
            self.json("login", hub.host, "--token-file", "-", typed=token or hub.admin_token)["hub"]
            == hub.host
        )


def at_terminal(person: Person, arguments: list[str], typed: str) -> str:
    """Run a command at a terminal of its own and type when it asks; returns all that it showed."""
    master, slave = pty.openpty()
    argv = [*NOMOAT, *arguments]
    with subprocess.Popen(argv, env=person.environment, stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        shown = b""
        while select.select([master], [], [], 60)[0]:
            try:
                part = os.read(master, 4096)
            except OSError:  # so a terminal says that nobody is left at the other end
                break
            if not part:
                break
            shown += part
            if typed and b"[Y/n]" in shown:
                os.write(master, typed.encode())
                typed = ""
    os.close(master)
    return shown.decode(errors="replace")


def write_adapter_folder(base: Path, folder: Path, seed: int = 0) -> Path:
    """A finished adapter of random weights, strong enough to be heard, with private files beside it."""
    random = np.random.default_rng(seed)
    modules = {}
    for block in range(4):
        for part, rows in (("attn_q", 576), ("attn_v", 192)):
            a = random.normal(0, 0.4, (4, 576)).astype(np.float32)
            modules[f"blk.{block}.{part}.weight"] = (a, random.normal(0, 0.4, (rows, 4)).astype(np.float32))
    adapter = LoraAdapter(sha256_file(base), "llama", 4, 4.0, modules, 9, 3)
    write_peft(adapter, folder)
    write_gguf_lora(adapter, folder / "adapter.gguf")
    (folder / "dataset").mkdir()
    (folder / "dataset" / "train.jsonl").write_text('{"text": "my secret diary"}\n')
    (folder / "report.html").write_text("my secret diary")
    (folder / "metrics.jsonl").write_text("{}\n")
    names = [
        "adapter_model.safetensors",
        "adapter_config.json",
        "adapter.gguf",
        "metrics.jsonl",
        "report.html",
    ]
    details = {"adapter": "/home/me/diary", "base": "smollm2"}
    write_manifest(folder, "adapter", names, {"base": adapter.base_digest}, details)
    return folder
