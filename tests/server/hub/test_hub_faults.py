"""What must not happen to anybody's files: kills, damaged disks, full disks, races."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import httpx
from killed_hub import kill, race
from pushing import batch, commit, commit_files, large, make_repo, push_large
from running_hub import RunningHub, started_hub

from nomoat.share.blobs.files import FileBlobs


def test_killed_at_any_moment(tmp_path: Path) -> None:
    figures = kill(tmp_path, 8, seed=5)
    assert figures.problems == []
    assert figures.hub_kills and figures.client_kills and figures.acknowledged_commits
    assert _check(tmp_path)["problems"] == []


def test_a_damaged_file_is_reported_and_not_served(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    with started_hub(tmp_path, "--rate", "0") as hub:
        repo = make_repo(hub, hub.admin_token, "admin/damaged")
        push_large(hub, hub.admin_token, repo, "w.bin", content)
        path = next(
            each for each in hub.root.glob("blobs/sha256/??/??/*") if each.stat().st_size == len(content)
        )
        path.write_bytes(b"\xff" + content[1:] if content[0] != 255 else b"\0" + content[1:])
        answer = hub.get(f"/{repo}/resolve/main/w.bin")
        assert answer.status_code == 500
        assert "damaged_blob" in answer.text
        rest = hub.get(f"/{repo}/resolve/main/w.bin", headers={"Range": f"bytes={1 << 20}-"})
        assert rest.content == content[1 << 20 :], "what is whole is still handed out"
    assert [each["name"] for each in _check(tmp_path, expected=1)["problems"]] == [f"sha256:{path.name}"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """Files of the hub may not be larger than 3 MB: to it that is a full disk."""
    with started_hub(tmp_path, "--rate", "0") as hub:
        repo = make_repo(hub, hub.admin_token, "admin/full")
        small, big = os.urandom(1 << 20), os.urandom(8 << 20)
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
        push_large(hub, hub.admin_token, repo, "small.bin", small)
        [wanted] = batch(hub, hub.admin_token, repo, sha256(big).hexdigest(), len(big)).json()["objects"]
        answer = httpx.put(wanted["actions"]["upload"]["href"], content=big, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
        assert "no room left" in answer.json()["error"]
        assert commit(hub, hub.admin_token, repo, large("big.bin", big)).status_code == 422
        assert hub.get(f"/{repo}/resolve/main/small.bin").content == small
        assert not list((hub.root / "blobs" / "incoming").iterdir())
        assert len(big) not in {info.size_bytes for info in FileBlobs(hub.root / "blobs").all()}
    assert _check(tmp_path)["problems"] == []


def test_of_two_pushers_one_wins(running_hub: RunningHub) -> None:
    make_repo(running_hub, running_hub.admin_token, "admin/raced")
    commit_files(running_hub, running_hub.admin_token, "admin/raced", first__txt=b"first")
    assert race(running_hub, running_hub.admin_token, 20) == [(1, 1)] * 20


def _check(home: Path, expected: int = 0) -> dict[str, list[dict[str, str]]]:
    argv = [sys.executable, "-m", "nomoat.cli.main", "hub", "check", "--root", str(home / "hub"), "--json"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == expected, answer.stdout + answer.stderr
    found: dict[str, list[dict[str, str]]] = json.loads(answer.stdout)
    return found
