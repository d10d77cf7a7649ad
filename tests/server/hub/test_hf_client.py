"""The Python client of Hugging Face, unmodified and without Xet, against a real hub."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pushing import commit_files, make_repo
from running_hub import RunningHub
from sqlalchemy import insert

from nomoat.share.client.connection import Connection
from nomoat.share.client.references import HubAddress
from nomoat.share.client.releases import Release
from nomoat.share.client.remote import RemoteRepo
from nomoat.share.names import RepoName
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.schema import discussions

SCRIPTS = ["push_and_pull", "trees_and_paths", "commits_and_conflicts", "branches_tags_moves", "list_and_search",
           "people", "access", "errors", "resume"]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_client_works_as_with_its_own_hub(
    running_hub: RunningHub, alice: str, bob: str, script: str
) -> None:
    running_hub.run_client("hf_scripts", script, alice, BOB=bob)


def test_the_client_cannot_undo_a_release(running_hub: RunningHub, alice: str) -> None:
    make_repo(running_hub, alice, "alice/released")
    first = commit_files(running_hub, alice, "alice/released", notes__txt=b"first")
    address = HubAddress(running_hub.url.removeprefix("http://"), running_hub.url)
    with Connection(address, alice) as connection:
        assert Release(RemoteRepo(connection, _name("alice/released")), "v1.0").make(first)
    commit_files(running_hub, alice, "alice/released", notes__txt=b"second")
    running_hub.run_client("hf_release", "releases", alice)


def test_the_client_reads_discussions(running_hub: RunningHub, alice: str) -> None:
    make_repo(running_hub, alice, "alice/talked-of")
    with contextlib.closing(Registry(RegistryConfig(running_hub.root))) as registry:
        repo = registry.repos.get(registry.accounts.identity("alice"), _name("alice/talked-of"))
        said = [
            {"author": "alice", "text": "Tell me.", "created_ms": 1},
            {"author": "bob", "text": "A *test*.", "created_ms": 2},
        ]
        rows: list[dict[str, Any]] = [
            {
                "number": 1,
                "title": "What is it?",
                "author": "alice",
                "status": "open",
                "created_ms": 1,
                "comments": said,
            },
            {
                "number": 2,
                "title": "Thanks",
                "author": "bob",
                "status": "closed",
                "created_ms": 2,
                "comments": [],
            },
        ]
        with registry.database.write() as connection:
            connection.execute(insert(discussions), [{"repo_id": repo.id, **row} for row in rows])
    running_hub.run_client("hf_talk", "discussions", alice)


def _name(text: str) -> RepoName:
    return RepoName.parse("model", text)
