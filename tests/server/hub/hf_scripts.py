"""What a person does with the Python client of Hugging Face, unmodified. Each function runs in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.numpy import save_file

CARD = """---
license: apache-2.0
language: [en, de]
tags: [poetry, tiny]
pipeline_tag: text-generation
base_model: alice/base
datasets: [alice/verses]
---
# Verses

![a picture](x.png)

Writes **short** [verses](https://example.org) about the sea.
"""


def fails(kind: type[Exception], function: Any, *arguments: Any, **named: Any) -> Any:
    """The error of that very kind that the call raises."""
    try:
        function(*arguments, **named)
    except kind as error:
        assert type(error) is kind or kind is HfHubHTTPError, repr(error)
        return error
    raise AssertionError(f"no {kind.__name__}")


def folder() -> Path:
    """Some files: a card, a configuration, a text in a folder, and weights of 3 MB."""
    path = Path(tempfile.mkdtemp())
    (path / "text").mkdir()
    (path / "README.md").write_text(CARD)
    (path / "config.json").write_text('{"model_type": "none"}')
    (path / "text" / "größe.txt").write_text("one\ntwo\n")
    (path / "empty.txt").write_text("")
    save_file({"w": np.frombuffer(os.urandom(3_000_000), np.uint8)}, path / "weights.safetensors")
    return path


def push_and_pull() -> None:
    api, files = HfApi(), folder()
    url = api.create_repo("alice/verses", private=False)
    assert url.repo_id == "alice/verses" and url.repo_type == "model", url
    assert api.create_repo("alice/verses", exist_ok=True) == url
    assert fails(HfHubHTTPError, api.create_repo, "alice/verses").response.status_code == 409
    pushed = api.upload_folder(repo_id="alice/verses", folder_path=files, commit_message="Verses")
    info = api.model_info("alice/verses", files_metadata=True)
    assert info.sha == pushed.oid and info.author == "alice" and not info.private and not info.gated
    assert (
        info.pipeline_tag == "text-generation"
        and info.card_data is not None
        and info.card_data.license == "apache-2.0"
    )
    assert {"poetry", "en", "license:apache-2.0", "base_model:alice/base", "dataset:alice/verses"} <= set(
        info.tags or []
    )
    weights = next(each for each in info.siblings or [] if each.rfilename == "weights.safetensors")
    assert (
        weights.size == (files / "weights.safetensors").stat().st_size
        and weights.lfs is not None
        and info.used_storage
    )
    first = Path(snapshot_download("alice/verses"))
    for path in files.rglob("*.*"):
        assert (first / path.relative_to(files)).read_bytes() == path.read_bytes(), path
    # Nothing has changed: the second push makes no commit, the second pull fetches nothing.
    assert api.upload_folder(repo_id="alice/verses", folder_path=files).oid == pushed.oid
    assert Path(snapshot_download("alice/verses")) == first
    assert [commit.title for commit in api.list_repo_commits("alice/verses")] == ["Verses", "initial commit"]
    assert api.file_exists("alice/verses", "text/größe.txt") and not api.file_exists(
        "alice/verses", "none.txt"
    )
    assert HfFileSystem().read_text("alice/verses/text/größe.txt") == "one\ntwo\n"
    only = snapshot_download("alice/verses", allow_patterns=["*.json"], cache_dir=tempfile.mkdtemp())
    assert sorted(os.listdir(only)) == ["config.json"]


def trees_and_paths() -> None:
    api, files = HfApi(), folder()
    api.create_repo("alice/paths")
    assert api.list_repo_files("alice/paths") == [".gitattributes"]
    api.upload_folder(repo_id="alice/paths", folder_path=files)
    below = list(api.list_repo_tree("alice/paths", "text", expand=True))
    assert [each.path for each in below] == ["text/größe.txt"] and below[0].last_commit is not None
    assert {each.path for each in api.list_repo_tree("alice/paths")} >= {"text", "README.md"}
    assert "text/größe.txt" in {each.path for each in api.list_repo_tree("alice/paths", recursive=True)}
    found = api.get_paths_info("alice/paths", ["text", "weights.safetensors", "none"], expand=True)
    assert [each.path for each in found] == ["text", "weights.safetensors"]
    fails(RemoteEntryNotFoundError, list, api.list_repo_tree("alice/paths", "none"))


def commits_and_conflicts() -> None:
    api = HfApi()
    api.create_repo("alice/commits")
    both = [CommitOperationAdd("a.txt", b"1"), CommitOperationAdd("d/b.bin", b"\0" * 9)]
    first = api.create_commit("alice/commits", both,
                              commit_message="one", commit_description="more words")  # fmt: skip
    second = api.create_commit("alice/commits", [CommitOperationAdd("a.txt", b"2")], commit_message="two",
                               parent_commit=first.oid)  # fmt: skip
    late = fails(HfHubHTTPError, api.create_commit, "alice/commits", [CommitOperationAdd("a.txt", b"3")],
                 commit_message="late", parent_commit=first.oid)  # fmt: skip
    assert late.response.status_code == 412 and "moved on" in str(late), late
    short = api.create_commit("alice/commits", [CommitOperationAdd("c.txt", b"4")], commit_message="three",
                              parent_commit=second.oid[:8])  # fmt: skip
    copies = [CommitOperationCopy("d/b.bin", "copy.bin"), CommitOperationCopy("c.txt", "e.txt")]
    deleted = [CommitOperationDelete("d/"), CommitOperationDelete("c.txt")]
    api.create_commit("alice/commits", [*copies, *deleted], commit_message="four", parent_commit=short.oid)
    assert api.list_repo_files("alice/commits") == [".gitattributes", "a.txt", "copy.bin", "e.txt"]
    old = hf_hub_download("alice/commits", "a.txt", revision=first.oid)
    assert Path(old).read_bytes() == b"1"
    assert Path(hf_hub_download("alice/commits", "e.txt")).read_bytes() == b"4"
    fails(
        BadRequestError,
        api.create_commit,
        "alice/commits",
        [CommitOperationAdd("x/CON.txt", b"1")],
        commit_message="no",
    )
    fails(RevisionNotFoundError, api.create_commit, "alice/commits",
          [CommitOperationAdd("x", b"1")], commit_message="no", revision="none")  # fmt: skip
    assert fails(HfHubHTTPError, api.create_commit, "alice/commits", [CommitOperationAdd("x", b"1")],
                 commit_message="no", create_pr=True).response.status_code == 501  # fmt: skip


def branches_tags_moves() -> None:
    api = HfApi()
    api.create_repo("alice/first", repo_type="dataset")
    api.upload_file(
        repo_id="alice/first", repo_type="dataset", path_or_fileobj=b"{}\n", path_in_repo="data.jsonl"
    )
    api.create_branch("alice/first", branch="try/new", repo_type="dataset")
    assert (
        fails(
            HfHubHTTPError, api.create_branch, "alice/first", branch="try/new", repo_type="dataset"
        ).response.status_code
        == 409
    )
    api.create_branch("alice/first", branch="try/new", repo_type="dataset", exist_ok=True)
    api.upload_file(
        repo_id="alice/first",
        repo_type="dataset",
        path_or_fileobj=b"[]\n",
        path_in_repo="new.json",
        revision="try/new",
    )
    assert "new.json" not in api.list_repo_files("alice/first", repo_type="dataset")
    assert "new.json" in api.list_repo_files("alice/first", repo_type="dataset", revision="try/new")
    assert (
        Path(hf_hub_download("alice/first", "new.json", repo_type="dataset", revision="try/new")).read_text()
        == "[]\n"
    )
    api.create_tag("alice/first", tag="v1.0", repo_type="dataset", revision="try/new")
    refs = api.list_repo_refs("alice/first", repo_type="dataset")
    assert [ref.name for ref in refs.branches] == ["main", "try/new"] and refs.tags[0].name == "v1.0"
    api.delete_tag("alice/first", tag="v1.0", repo_type="dataset")
    api.delete_branch("alice/first", branch="try/new", repo_type="dataset")
    fails(RevisionNotFoundError, api.dataset_info, "alice/first", revision="v1.0")
    move_and_delete(api)


def move_and_delete(api: HfApi) -> None:
    api.move_repo("alice/first", "alice/second", repo_type="dataset")
    assert api.dataset_info("alice/first").id == "alice/second"  # the old name leads to the new one
    moved = hf_hub_download("alice/first", "data.jsonl", repo_type="dataset", cache_dir=tempfile.mkdtemp())
    assert Path(moved).read_text() == "{}\n"
    assert "alice/second" in [each.id for each in api.list_datasets(author="alice")]
    api.delete_repo("alice/second", repo_type="dataset")
    fails(RepositoryNotFoundError, api.dataset_info, "alice/second")
    api.delete_repo("alice/second", repo_type="dataset", missing_ok=True)


def list_and_search() -> None:
    api = HfApi()
    for name, card in (
        ("kelp-verses", CARD),
        ("kelp-prose", "---\nlicense: mit\ntags: [prose]\n---\nProse.\n"),
        ("other", "x"),
    ):
        api.create_repo(f"alice/{name}")
        api.upload_file(repo_id=f"alice/{name}", path_or_fileobj=card.encode(), path_in_repo="README.md")

    def names(**query: Any) -> list[str]:
        return sorted(each.id.removeprefix("alice/") for each in api.list_models(author="alice", **query))

    assert names(search="kelp") == ["kelp-prose", "kelp-verses"]
    assert names(search="kelp", filter="license:mit") == ["kelp-prose"]
    assert "kelp-verses" in names(filter=["poetry", "tiny"]) and "kelp-prose" not in names(filter="poetry")
    assert "kelp-verses" in names(pipeline_tag="text-generation")
    assert not names(search="nothing-like-this")
    full = next(iter(api.list_models(author="alice", search="kelp-verses", full=True)))
    assert {each.rfilename for each in full.siblings or []} == {".gitattributes", "README.md"}
    slim = next(iter(api.list_models(author="alice", search="kelp-verses", expand=["sha", "likes"])))
    assert slim.sha and slim.likes == 0 and slim.tags is None
    newest = [each.id for each in api.list_models(author="alice", sort="created_at", limit=2)]
    assert newest == ["alice/other", "alice/kelp-prose"]
    page = httpx.get(f"{os.environ['HF_ENDPOINT']}/api/models", params={"author": "alice", "limit": 1}).links
    assert "cursor=" in page["next"]["url"] and len(list(api.list_models(author="alice"))) >= 3


def people() -> None:
    api = HfApi()
    me = api.whoami()
    assert me["name"] == "alice" and me["auth"]["accessToken"]["role"] == "write" and me["orgs"] == []
    assert fails(HfHubHTTPError, api.whoami, token="hf_" + "x" * 40).response.status_code == 401
    api.create_repo("alice/liked")
    endpoint, headers = os.environ["HF_ENDPOINT"], {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
    assert httpx.post(f"{endpoint}/api/models/alice/liked/like", headers=headers).status_code == 200
    assert [each.username for each in api.list_repo_likers("alice/liked")] == ["alice"]
    assert (
        api.list_liked_repos("alice").models == ["alice/liked"] and api.model_info("alice/liked").likes == 1
    )
    api.unlike("alice/liked")
    assert api.model_info("alice/liked").likes == 0
    assert api.get_user_overview("alice").fullname == "alice"
    assert list(api.get_repo_discussions("alice/liked")) == []


def access() -> None:
    """Private and gated repositories, seen by alice, bob and a stranger."""
    api, bob, stranger = HfApi(), HfApi(token=os.environ["BOB"]), HfApi(token=False)
    api.create_repo("alice/secret", private=True)
    api.upload_file(repo_id="alice/secret", path_or_fileobj=b"hush", path_in_repo="s.txt")
    for other in (bob, stranger):
        fails(RepositoryNotFoundError, other.model_info, "alice/secret")
        fails(
            RepositoryNotFoundError,
            other.hf_hub_download,
            "alice/secret",
            "s.txt",
            cache_dir=tempfile.mkdtemp(),
        )
        assert "alice/secret" not in [each.id for each in other.list_models(author="alice")]
    assert "alice/secret" in [each.id for each in api.list_models(author="alice")]
    fails(
        RepositoryNotFoundError,
        bob.upload_file,
        repo_id="alice/secret",
        path_or_fileobj=b"x",
        path_in_repo="x",
    )
    gate(api, bob, stranger)


def gate(api: HfApi, bob: HfApi, stranger: HfApi) -> None:
    """The repository can be seen by everybody, and downloaded by those who were let in."""
    api.update_repo_settings("alice/secret", private=False, gated="manual")
    assert bob.model_info("alice/secret").gated == "manual"
    for other in (bob, stranger):
        fails(GatedRepoError, other.hf_hub_download, "alice/secret", "s.txt", cache_dir=tempfile.mkdtemp())
    fails(GatedRepoError, bob.auth_check, "alice/secret")
    endpoint, headers = os.environ["HF_ENDPOINT"], {"Authorization": f"Bearer {os.environ['BOB']}"}
    assert httpx.post(f"{endpoint}/alice/secret/ask-access", headers=headers).json() == {"status": "pending"}
    assert [each.username for each in api.list_pending_access_requests("alice/secret")] == ["bob"]
    fails(HfHubHTTPError, list, bob.list_pending_access_requests("alice/secret"))
    api.accept_access_request("alice/secret", "bob")
    assert (
        Path(bob.hf_hub_download("alice/secret", "s.txt", cache_dir=tempfile.mkdtemp())).read_bytes()
        == b"hush"
    )
    api.reject_access_request("alice/secret", "bob", rejection_reason=None)
    fails(GatedRepoError, bob.hf_hub_download, "alice/secret", "s.txt", cache_dir=tempfile.mkdtemp())
    api.grant_access("alice/secret", "bob")
    bob.auth_check("alice/secret")
    assert fails(HfHubHTTPError, bob.upload_file, repo_id="alice/secret", path_or_fileobj=b"x",
                 path_in_repo="x").response.status_code == 403  # fmt: skip
    assert fails(HfHubHTTPError, bob.create_repo, "alice/mine").response.status_code == 403


def errors() -> None:
    api = HfApi()
    api.create_repo("alice/there")
    fails(RepositoryNotFoundError, api.model_info, "alice/none")
    fails(RepositoryNotFoundError, api.model_info, "gpt2")
    fails(RepositoryNotFoundError, HfApi(token=False).model_info, "alice/none")
    assert fails(HfHubHTTPError, HfApi(token=False).create_repo, "alice/new").response.status_code == 401
    fails(RevisionNotFoundError, api.model_info, "alice/there", revision="none")
    fails(RevisionNotFoundError, hf_hub_download, "alice/there", "x", revision="none")
    fails(RemoteEntryNotFoundError, hf_hub_download, "alice/there", "none.txt")
    assert (
        not api.repo_exists("alice/none")
        and api.repo_exists("alice/there")
        and api.revision_exists("alice/there", "main")
    )


def resume() -> None:
    """A download whose connection breaks goes on where it was."""
    content = os.urandom(25_000_000)
    HfApi().create_repo("alice/resume")
    HfApi().upload_file(repo_id="alice/resume", path_or_fileobj=content, path_in_repo="w.bin")
    with BreakingProxy(os.environ["HF_ENDPOINT"], after_bytes=15_000_000) as proxy:
        path = hf_hub_download("alice/resume", "w.bin", endpoint=proxy.url, local_dir=tempfile.mkdtemp())
    assert Path(path).read_bytes() == content
    assert proxy.broken == 1 and len(proxy.ranges) == 1 and 0 < proxy.ranges[0] < 15_000_000, proxy.ranges


class BreakingProxy:
    """Passes bytes on, and breaks the first connection once that many came back through it."""

    def __init__(self, target: str, after_bytes: int) -> None:
        self._target = httpx.URL(target)
        self._after_bytes, self.broken = after_bytes, 0
        self.ranges: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> BreakingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        hub = socket.create_connection((self._target.host, self._target.port or 80))
        threading.Thread(target=self._pass_on, args=(client, hub), daemon=True).start()
        sent = 0
        while data := hub.recv(65536):
            sent += len(data)
            client.sendall(data)
            if sent > self._after_bytes and not self.broken:
                self.broken += 1
                break
        for end in (client, hub):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, client: socket.socket, hub: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if match := re.search(rb"(?i)range: bytes=([0-9]+)-", data):
                    self.ranges.append(int(match[1]))
                hub.sendall(data)


def push_gguf() -> None:
    api = HfApi()
    api.create_repo("alice/smollm2", private=True)
    path = Path(os.environ["GGUF"])
    api.upload_file(repo_id="alice/smollm2", path_or_fileobj=path, path_in_repo="smollm2.Q4_1.gguf")


def push_in_parts() -> None:
    api, content = HfApi(), os.urandom(1_500_001)
    api.create_repo("admin/parts")
    api.upload_file(repo_id="admin/parts", path_or_fileobj=content, path_in_repo="w.bin")
    assert Path(hf_hub_download("admin/parts", "w.bin")).read_bytes() == content
