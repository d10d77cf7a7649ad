"""nomoat's own pushes to a running hub, nearby and from afar: each version arrives, and what changed is sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from running_hub import RunningHub

from nomoat.base.progress import Silent
from nomoat.share.client.connection import Connection
from nomoat.share.client.outgoing import LocalFile, Outgoing
from nomoat.share.client.push import Pushed, Pusher, PushOptions
from nomoat.share.client.references import HubAddress
from nomoat.share.names import RepoName

SIZE = 12 << 20


class Sender:
    """Somebody who pushes one file to one repository."""

    def __init__(self, hub: RunningHub, token: str, repo: str, folder: Path, *, is_local: bool) -> None:
        address = HubAddress(hub.url.removeprefix("http://"), hub.url)
        self.connection = Connection(address, token)
        self.connection.is_local = is_local
        self.pusher = Pusher(self.connection, RepoName.parse("model", repo))
        self.pusher.create(private=False)
        self.path = folder / "model.bin"

    def push(self, content: bytes, *, whole: bool = False) -> Pushed:
        self.path.write_bytes(content)
        file = LocalFile.of_file("model.bin", self.path, Silent())
        pushed = self.pusher.push(
            Outgoing("folder", "m", (file,)), PushOptions(whole=whole), self.pusher.head()
        )
        url = self.pusher.remote.file_url(pushed.commit, "model.bin")
        got = httpx.get(url, headers=self.connection.authorization, follow_redirects=True, timeout=60).content
        assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
        return pushed


@pytest.mark.parametrize("is_local", [True, False])
def test_a_new_version_is_sent_as_its_changes(
    running_hub: RunningHub, alice: str, tmp_path: Path, is_local: bool
) -> None:
    sender = Sender(running_hub, alice, f"alice/changing-{is_local}", tmp_path, is_local=is_local)
    content = np.random.default_rng(1 + is_local).bytes(SIZE)
    assert SIZE <= sender.push(content).sent_bytes < SIZE * 1.01
    grown = b"a longer header" * 1000 + content[9:]
    assert 0 < sender.push(grown).sent_bytes < SIZE / 100
    middle = grown[: SIZE // 2] + b"other bytes" + grown[SIZE // 2 + 11 :]
    assert 0 < sender.push(middle).sent_bytes < SIZE / 100
    assert sender.push(content, whole=True).sent_bytes == 0  # the hub has it from before
    assert sender.push(content[1:], whole=True).sent_bytes == SIZE - 1
    other = np.random.default_rng(9 + is_local).bytes(SIZE)
    assert SIZE <= sender.push(other).sent_bytes < SIZE * 1.01
