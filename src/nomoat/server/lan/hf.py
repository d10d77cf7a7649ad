"""What is shared, as Hugging Face's clients read it: `HF_ENDPOINT=http://HOST:PORT`, repositories named `lan/NAME`.

Every file counts as a large one: it is known by its sha256, and a client that compares anything compares that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from nomoat.server.lan.files import file_response
from nomoat.share.lan.blocks import Shelf
from nomoat.share.names import MAIN
from nomoat.share.registry.git_objects import GitEntry, blob_oid, commit_oid, lfs_pointer, tree_oid
from nomoat.share.things import Thing, ThingFile

__all__ = ["OWNER", "LanRepo", "hf_routes", "repos_of"]

OWNER = "lan"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_REPEATED = re.compile(r"([.-])[.-]+")
_LONGEST = 96
_AUTHOR, _WHEN = "nomoat <nomoat@localhost>", "1970-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class LanRepo:
    """A thing as a repository with one commit, whose id follows from the files."""

    name: str
    thing: Thing
    files: Mapping[str, ThingFile]

    @property
    def id(self) -> str:
        """`lan/name`."""
        return f"{OWNER}/{self.name}"

    @property
    def commit(self) -> str:
        """As git would call it."""
        tree = tree_oid(GitEntry(path, "blob", _oid(file)) for path, file in self.files.items())
        return commit_oid(tree, "", _AUTHOR, 0, self.thing.digest)

    def has_revision(self, revision: str) -> bool:
        """Whether that names the commit."""
        return revision in {MAIN, "HEAD", "refs/heads/main", self.commit}


def repos_of(things: Iterable[Thing]) -> dict[str, LanRepo]:
    """The repositories by name; a name that two things come to is told apart by their kind."""
    found: dict[str, LanRepo] = {}
    for thing in things:
        name = _name(thing.name)
        name = name if name not in found else _name(f"{name}-{thing.kind}")
        found[name] = LanRepo(name, thing, {_path(thing, file): file for file in thing.files})
    return found


def hf_routes(shelf: Shelf) -> list[BaseRoute]:
    """The routes that clients ask when they download."""
    repos = repos_of(shelf.things)

    async def models(request: Request) -> Response:
        words = request.query_params.get("search", "").lower()
        return JSONResponse(
            [_repo_json(repo, brief=True) for repo in repos.values() if words in repo.id.lower()]
        )

    async def info(request: Request) -> Response:
        repo = _find(repos, request)
        return _missing(repos, request) if repo is None else JSONResponse(_repo_json(repo))

    async def tree(request: Request) -> Response:
        repo = _find(repos, request)
        return _missing(repos, request) if repo is None else JSONResponse(list(_tree_json(repo)))

    async def refs(request: Request) -> Response:
        repo = _find(repos, request)
        if repo is None:
            return _missing(repos, request)
        branch = {"name": MAIN, "ref": "refs/heads/main", "targetCommit": repo.commit}
        return JSONResponse({"branches": [branch], "tags": [], "converts": [], "pullRequests": []})

    async def resolve(request: Request) -> Response:
        repo = _find(repos, request)
        if repo is None:
            return _missing(repos, request)
        return await _file(request, shelf, repo)

    one = "/api/models/{owner}/{name}"
    return [
        Route("/api/models", models), Route(one, info), Route(f"{one}/revision/{{revision:path}}", info),
        Route(f"{one}/tree/{{revision}}", tree), Route(f"{one}/refs", refs),
        Route("/{owner}/{name}/resolve/{revision}/{path:path}", resolve),
    ]  # fmt: skip


async def _file(request: Request, shelf: Shelf, repo: LanRepo) -> Response:
    path = request.path_params["path"]
    file = repo.files.get(path)
    commit = {"X-Repo-Commit": repo.commit}
    if file is None:
        return _error("EntryNotFound", f"{repo.id} has no file {path[:120]!r}", commit)
    linked = f'"{file.digest.removeprefix("sha256:")}"'
    more = {**commit, "X-Linked-Etag": linked, "X-Linked-Size": str(file.size_bytes)}
    return await file_response(request, shelf, file.digest, path, more)


def _find(repos: Mapping[str, LanRepo], request: Request) -> LanRepo | None:
    """The repository that a route names, at its one revision."""
    repo = _named(repos, request)
    revision = request.path_params.get("revision", MAIN)
    return repo if repo is not None and repo.has_revision(revision) else None


def _named(repos: Mapping[str, LanRepo], request: Request) -> LanRepo | None:
    return repos.get(request.path_params["name"]) if request.path_params["owner"] == OWNER else None


def _missing(repos: Mapping[str, LanRepo], request: Request) -> Response:
    if _named(repos, request) is not None:
        return _error("RevisionNotFound", "there is one version only: main")
    return _error("RepoNotFound", f"not on offer; what is: {', '.join(repo.id for repo in repos.values())}")


def _error(code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """As Hugging Face's clients tell errors apart."""
    told = {
        **(headers or {}),
        "X-Error-Code": code,
        "X-Error-Message": message.encode("ascii", "replace").decode(),
    }
    return JSONResponse({"error": message}, 404, told)


def _repo_json(repo: LanRepo, *, brief: bool = False) -> dict[str, Any]:
    thing = repo.thing
    library = "peft" if thing.kind == "adapter" else "gguf"
    licence = [f"license:{thing.licence.lower()}"] if thing.licence else []
    content: dict[str, Any] = {
        "_id": repo.commit[:24], "id": repo.id, "modelId": repo.id, "author": OWNER, "sha": repo.commit,
        "private": False, "gated": False, "disabled": False, "createdAt": _WHEN, "lastModified": _WHEN,
        "downloads": 0, "likes": 0, "tags": [library, *licence], "library_name": library,
    }  # fmt: skip
    return content if brief else {**content, "siblings": [{"rfilename": path} for path in repo.files]}


def _tree_json(repo: LanRepo) -> Iterator[dict[str, Any]]:
    for path, file in repo.files.items():
        pointer = lfs_pointer(file.digest, file.size_bytes)
        lfs = {
            "oid": file.digest.removeprefix("sha256:"),
            "size": file.size_bytes,
            "pointerSize": len(pointer),
        }
        yield {"type": "file", "path": path, "oid": _oid(file), "size": file.size_bytes, "lfs": lfs}


def _oid(file: ThingFile) -> str:
    return blob_oid(lfs_pointer(file.digest, file.size_bytes))


def _path(thing: Thing, file: ThingFile) -> str:
    """With the quantisation in a model's file name, by which clients choose."""
    stem, dot, ending = file.path.rpartition(".")
    if thing.kind == "adapter" or not dot or thing.quantisation.lower() in stem.lower():
        return file.path
    return f"{stem}.{thing.quantisation}.{ending}"


def _name(text: str) -> str:
    """`qwen2.5:q4_k_m` as a repository may be named."""
    plain = _REPEATED.sub(r"\1", _NOT_IN_NAMES.sub("-", text))[:_LONGEST].strip("-.")
    return plain or "model"
