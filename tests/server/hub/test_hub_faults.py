"""A hub whose disk is full or damaged, and whose clients race."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pushing import push_large
from running_hub import RunningHub, started_hub


def commit(hub: RunningHub, token: str, repo: str, path: str, content: bytes, parent: str = "") -> int:
    header = {"summary": path, **({"parentCommit": parent} if parent else {})}
    value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    lines = [{"key": "header", "value": header}, {"key": "file", "value": value}]
    text = "\n".join(json.dumps(line) for line in lines).encode()
    return hub.request("POST", f"/api/models/{repo}/commit/main", token, content=text).status_code


def test_of_racing_pushers_one_wins_each_round(running_hub: RunningHub, alice: str) -> None:
    running_hub.post("/api/repos/create", {"name": "contest", "type": "model"}, alice)
    with ThreadPoolExecutor(4) as pool:
        for number in range(10):
            parent = running_hub.get("/api/models/alice/contest", alice).json()["sha"]
            racers = [
                pool.submit(commit, running_hub, alice, "alice/contest", f"{number}-{racer}", b"x", parent)
                for racer in range(4)
            ]
            assert sorted(racer.result() for racer in racers) == [200, 412, 412, 412]
    log = running_hub.get("/api/models/alice/contest/commits/main", alice).json()
    assert len(log) == 11  # the first one is the repository's own


def test_damage_is_found_told_and_never_served(tmp_path: Path) -> None:
    with started_hub(tmp_path) as hub:
        token = hub.admin_token
        hub.post("/api/repos/create", {"name": "worn", "type": "model"}, token)
        assert commit(hub, token, "admin/worn", "big.txt", b"word " * 600_000) == 200
        [path] = [p for p in (hub.root / "blobs" / "sha256").glob("??/??/*") if p.stat().st_size == 3_000_000]
        content = bytearray(path.read_bytes())
        content[2_500_000] ^= 4
        path.write_bytes(content)
        first = hub.get("/admin/worn/resolve/main/big.txt", token, headers={"Range": "bytes=0-99"})
        assert first.status_code == 206 and first.content == bytes(content[:100])
        answer = hub.get(
            "/admin/worn/resolve/main/big.txt", token, headers={"Range": "bytes=2400000-2600000"}
        )
        assert answer.status_code == 500 and "differs from what was stored" in answer.text
        found = subprocess.run([sys.executable, "-m", "nomoat.cli.main", "hub", "check", "--json"],
                               capture_output=True, text=True, env=hub.environment(), check=False)  # fmt: skip
        assert found.returncode == 1
        [problem] = json.loads(found.stdout)["problems"]
        assert problem["kind"] == "blob" and path.name in problem["what"]
        assert "send the same file again" in problem["remedy"]
        told = _checked(hub)
        assert "hint (blob): send the same file again" in told.stdout and "--repair" in told.stdout
        push_large(hub, token, "admin/worn", "big.txt", b"word " * 600_000)
        assert hub.get("/admin/worn/resolve/main/big.txt", token).content == b"word " * 600_000
        told = _checked(hub)
        assert told.returncode == 0 and "hint" not in told.stdout, told.stdout


def _checked(hub: RunningHub) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nomoat.cli.main", "hub", "check"],
                          capture_output=True, text=True, env=hub.environment(), check=False)  # fmt: skip


def test_a_full_disk_stops_one_push_and_nothing_else(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mount)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        with started_hub(mount) as hub:
            token = hub.admin_token
            hub.post("/api/repos/create", {"name": "full", "type": "model"}, token)
            statuses = [commit(hub, token, "admin/full", f"{n}.txt", b"%d" % n * 3_000_000) for n in range(6)]
            assert statuses[0] == 200 and statuses[-1] == 507, statuses
            assert hub.get("/admin/full/resolve/main/0.txt", token).content == b"0" * 3_000_000
            shown = {entry["path"] for entry in hub.get("/api/models/admin/full/tree/main", token).json()}
            assert shown == {
                ".gitattributes",
                *(f"{n}.txt" for n, status in enumerate(statuses) if status == 200),
            }
    finally:
        subprocess.run(["umount", str(mount)], check=True)
