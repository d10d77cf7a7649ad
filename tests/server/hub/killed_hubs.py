"""Hubs and pushing clients killed at any moment; then everything that was promised is there, and nothing by halves.

`python killed_hubs.py 200` does so many trials, `python killed_hubs.py 10 far` on PostgreSQL and S3; the suite does a
few.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from running_hub import started_hub

__all__ = ["Trials"]

_SIZE = 3_000_000
_REPO = "admin/busy"


class Trials:
    """One root, killed again and again."""

    def __init__(
        self,
        home: Path,
        seed: int = 0,
        places: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`places` are options of the first start that say where the hub keeps its things; it remembers them."""
        self.home, self._draw, self._variables = home, random.Random(seed), variables
        self.promised: dict[str, str] = {}
        """Path of a file whose commit was answered -> its sha256."""
        self.kills = {"hub": 0, "client": 0}
        with started_hub(home, "--rate", "0", *places, variables=variables) as hub:
            self._token = hub.admin_token
            hub.post("/api/repos/create", {"name": "busy", "type": "model"}, self._token)

    def one(self, victim: str, number: int) -> None:
        """Push until the victim is killed, then look at all of it."""
        with started_hub(self.home, "--rate", "0", variables=self._variables) as hub:
            argv = [sys.executable, __file__, "push", hub.url, self._token, str(number)]
            client = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            time.sleep(self._draw.uniform(0.25, 0.9))
            target = hub.process if victim == "hub" else client
            target.send_signal(signal.SIGKILL)
            self.kills[victim] += 1
            if victim == "hub":
                time.sleep(0.3)
            client.kill()
            assert client.stdout is not None
            for line in client.stdout:
                if line.endswith("\n"):
                    path, digest = line.split()
                    self.promised[path] = digest
            client.wait()
        self._look()

    def _look(self) -> None:
        """Start the hub again: fsck finds nothing, each promised file is there, each visible file is whole."""
        with started_hub(self.home, "--rate", "0", variables=self._variables) as hub:
            answer = subprocess.run([sys.executable, "-m", "nomoat.cli.main", "hub", "check", "--json"],
                                    capture_output=True, text=True, env=hub.environment(), check=False)  # fmt: skip
            assert json.loads(answer.stdout)["problems"] == [], answer.stdout
            tree = hub.get(f"/api/models/{_REPO}/tree/main?recursive=true&limit=1000", self._token).json()
            seen = {entry["path"]: entry["lfs"]["oid"] for entry in tree if "lfs" in entry}
            assert self.promised.items() <= seen.items()
            self.promised = seen
            for path in list(seen)[-3:]:
                content = hub.get(f"/{_REPO}/resolve/main/{path}", self._token, follow_redirects=True).content
                assert hashlib.sha256(content).hexdigest() == seen[path]


def push(url: str, token: str, number: int) -> None:
    """Commit files one after the other; tell of each whose commit was answered."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        for count in range(10_000):
            content = os.urandom(_SIZE)
            oid, path = hashlib.sha256(content).hexdigest(), f"{number:03d}-{count:04d}.bin"
            body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": _SIZE}]}
            [one] = client.post(f"/{_REPO}.git/info/lfs/objects/batch", json=body).json()["objects"]
            client.put(one["actions"]["upload"]["href"], content=content).raise_for_status()
            note = base64.b64encode(f"note {count}".encode()).decode()
            lines = [
                {"key": "header", "value": {"summary": path}},
                {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": _SIZE}},
                {"key": "file", "value": {"path": "note.txt", "content": note, "encoding": "base64"}},
            ]
            text = "\n".join(json.dumps(line) for line in lines)
            client.post(f"/api/models/{_REPO}/commit/main", content=text.encode()).raise_for_status()
            print(path, oid, flush=True)


def main() -> None:
    """So many trials, half of them on each side."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trials = _far_trials(folder, stack) if "far" in sys.argv else Trials(folder)
        for number in range(int(sys.argv[1])):
            trials.one(("hub", "client")[number % 2], number)
            if number % 10 == 9:
                print(f"{number + 1} trials: {trials.kills}, {len(trials.promised)} files kept", flush=True)


def _far_trials(folder: Path, stack: contextlib.ExitStack) -> Trials:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from own_servers import started_postgresql, started_s3

    for name in ("s3", "pg", "home"):
        (folder / name).mkdir()
    s3 = stack.enter_context(started_s3(folder / "s3"))
    database = stack.enter_context(started_postgresql(folder / "pg")).new_database()
    places = ("--database", database, "--bucket", "s3://hub/killed")
    return Trials(folder / "home", places=places, variables=s3.environment)


if __name__ == "__main__":
    if sys.argv[1] == "push":
        push(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
