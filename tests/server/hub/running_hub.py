"""A real hub process, and how tests and clients speak to it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["RunningHub", "started_hub"]

_HERE = Path(__file__).parent


@dataclass
class RunningHub:
    """A hub process and how to reach it."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path
    admin_token: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment, besides those that every hub has."""

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.home / "hub"

    def request(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **options)

    def get(self, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        return self.request("GET", path, token, **options)

    def post(self, path: str, content: Any, token: str | None = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, token, json=content, **options)

    def verb(self, *arguments: str) -> Any:
        """What `nomoat hub ... --json` says about this hub."""
        argv = [
            sys.executable,
            "-m",
            "nomoat.cli.main",
            "hub",
            *arguments,
            "--root",
            str(self.root),
            "--json",
        ]
        answer = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, env=self.environment(), check=False
        )
        return json.loads(answer.stdout)

    def user(self, name: str, scope: str = "write") -> str:
        """A token of a new account."""
        self.verb("user", "add", name)
        token: str = self.verb("token", "add", name, "--scope", scope)["token"]
        return token

    def environment(self, token: str | None = None, **more: str) -> dict[str, str]:
        """For a client: the hub is its endpoint, and it keeps its things in a folder of the test."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))
        }
        own = {
            "NOMOAT_HOME": str(self.home), "HF_ENDPOINT": self.url, "HF_HOME": str(self.home / "client"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1", "DO_NOT_TRACK": "1", "NO_COLOR": "1",
        }  # fmt: skip
        return {**inherited, **own, **self.variables, **({"HF_TOKEN": token} if token else {}), **more}

    def run_client(self, script: str, function: str, token: str | None = None, **more: str) -> str:
        """Call `function` of a module beside this file in a process of its own; its output, or a failed test."""
        code = f"import {script}; {script}.{function}()"
        answer = subprocess.run([sys.executable, "-c", code], cwd=_HERE, capture_output=True, text=True, timeout=240,
                                env=self.environment(token or self.admin_token, **more), check=False)  # fmt: skip
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout


@contextlib.contextmanager
def started_hub(
    home: Path, *options: str, variables: Mapping[str, str] | None = None
) -> Iterator[RunningHub]:
    environment = {**os.environ, "NOMOAT_HOME": str(home), "NO_COLOR": "1", **(variables or {})}
    argv = [sys.executable, "-m", "nomoat.cli.main", "hub", "serve", "--json", *options]
    with (home / "hub.log").open("ab") as log:
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if readable else b""
        assert line, (home / "hub.log").read_text()
        ready = json.loads(line)
        yield RunningHub(ready["url"], process, home, ready.get("admin_token", ""), variables or {})
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.stdout.close()
