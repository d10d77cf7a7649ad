"""Repositories, files and commits as Hugging Face's clients read them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nomoat.server.hub.wire import iso_time
from nomoat.share.registry.git_objects import lfs_pointer
from nomoat.share.registry.history import Commit, Ref
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["entry_json", "log_json", "ref_json", "repo_json", "sibling_json"]

_ALWAYS = {"_id", "id", "modelId"}


def repo_json(repo: Repo, *, only: Iterable[str] = ()) -> dict[str, Any]:
    """A repository without its files; `only` are the fields that the client wants (empty: all)."""
    content: dict[str, Any] = {
        "_id": f"{repo.id:024x}", "id": str(repo.name), "author": repo.name.owner, "sha": repo.head,
        "private": repo.private, "gated": repo.gated or False, "disabled": repo.taken_down,
        "createdAt": iso_time(repo.created_ms), "lastModified": iso_time(repo.modified_ms),
        "downloads": repo.downloads, "downloadsAllTime": repo.downloads, "likes": repo.likes, "trendingScore": 0,
        "tags": list(repo.tags), "cardData": dict(repo.card), "usedStorage": repo.size_bytes,
    }  # fmt: skip
    if repo.name.kind == "model":
        content |= {"modelId": str(repo.name), "library_name": repo.library or None,
                    "pipeline_tag": repo.pipeline_tag or None, **_weights_json(repo)}  # fmt: skip
    else:
        content |= {"description": repo.summary}
    wanted = set(only)
    return {name: value for name, value in content.items() if not wanted or name in wanted | _ALWAYS}


def sibling_json(entry: Entry, *, with_blob: bool) -> dict[str, Any]:
    """A file of a repository as a "sibling"."""
    content: dict[str, Any] = {"rfilename": entry.path}
    if with_blob:
        content |= {"size": entry.size_bytes, "blobId": entry.oid}
        if entry.lfs:
            lfs = _lfs_json(entry)
            content["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return content


def entry_json(
    entry: Entry, changed: Mapping[str, Commit] | None = None, damaged: Collection[str] = ()
) -> dict[str, Any]:
    """A file or folder of a tree; with `changed` also the commit that changed it last, and where that is not known
    null. `damaged` is of our own, and there only where it is true."""
    content: dict[str, Any] = {"type": "file" if entry.is_file else "directory", "oid": entry.oid,
                               "size": entry.size_bytes, "path": entry.path}  # fmt: skip
    if entry.lfs:
        content["lfs"] = _lfs_json(entry)
    if entry.digest in damaged:
        content["damaged"] = True
    if changed is not None:
        commit = changed.get(entry.path)
        content["lastCommit"] = commit and {
            "id": commit.oid,
            "title": commit.title,
            "date": iso_time(commit.created_ms),
        }
    return content


def ref_json(ref: Ref) -> dict[str, Any]:
    """A branch or tag; `immutable` is of our own, and true for a release."""
    full = f"refs/{'tags' if ref.is_tag else 'heads'}/{ref.name}"
    own = {"immutable": ref.immutable} if ref.is_tag else {}
    return {"name": ref.name, "ref": full, "targetCommit": ref.commit, **own}


def log_json(commit: Commit) -> dict[str, Any]:
    """A commit in a list of commits."""
    return {"id": commit.oid, "title": commit.title, "message": commit.message, "date": iso_time(commit.created_ms),
            "authors": [{"user": commit.author, "avatar": ""}]}  # fmt: skip


def _lfs_json(entry: Entry) -> dict[str, Any]:
    digest = entry.digest or ""
    pointer = len(lfs_pointer(digest, entry.size_bytes))
    return {"oid": digest.removeprefix("sha256:"), "size": entry.size_bytes, "pointerSize": pointer}


def _weights_json(repo: Repo) -> dict[str, Any]:
    if not repo.parameters:
        return {}
    if repo.artefact == "gguf":
        return {"gguf": {"total": repo.parameters, "architecture": repo.architecture}}
    kind = repo.quantisation.upper() or "F32"
    return {"safetensors": {"parameters": {kind: repo.parameters}, "total": repo.parameters}}
