"""A repository as its pages show it: loaded once for a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import Route

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.pictures import is_picture
from nomoat.server.hub.pages.records import Signature, likes_it, signatures_of
from nomoat.server.hub.pages.render import Visit
from nomoat.server.hub.wire import path_segments, split_revision
from nomoat.share.names import MAIN, RepoKind
from nomoat.share.registry.history import Commit
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["Opened", "kind_of", "load_repo", "open_repo", "read_text", "repo_routes", "revision_and_path"]


@dataclass(frozen=True)
class Opened:
    """A repository at a commit (None where nothing was sent yet). `revision` is how the address names the commit."""

    repo: Repo
    revision: str
    commit: Commit | None
    entries: Sequence[Entry]
    facts: Mapping[str, Mapping[str, Any]]
    signatures: Sequence[Signature]
    liked: bool
    may_write: bool
    files_url: str
    """The second origin; empty where the hub has none."""

    @property
    def files(self) -> list[Entry]:
        """Files without folders."""
        return [entry for entry in self.entries if entry.is_file]

    @property
    def pictures(self) -> list[Entry]:
        """Files that can be shown as pictures."""
        return [entry for entry in self.files if is_picture(entry.path)]

    @property
    def signature(self) -> Signature | None:
        """The signature of this very commit."""
        oid = self.commit.oid if self.commit else ""
        return next((each for each in self.signatures if each.commit == oid), None)

    def facts_of(self, entry: Entry) -> Mapping[str, Any]:
        """What inspection found in a file; empty where it was not inspected."""
        return self.facts.get(entry.digest or "", {})

    def find(self, name: str) -> Entry | None:
        """The file of that path, without regard to case."""
        return next((entry for entry in self.files if entry.path.lower() == name.lower()), None)

    def file_url(self, path: str) -> str:
        """The page of a file."""
        return f"{self._url}/blob/{quote(self.revision, safe='')}/{quote(path)}"

    def raw_url(self, path: str) -> str:
        """Where a file's bytes are. What everybody may have comes from the origin where nobody is logged in."""
        open_to_all = not (self.repo.private or self.repo.gated or self.repo.taken_down)
        origin = self.files_url if open_to_all else ""
        return f"{origin}{self._url}/resolve/{quote(self.revision, safe='')}/{quote(path)}"

    def tree_url(self, folder: str = "") -> str:
        """The list of files in a folder."""
        return f"{self._url}/tree/{quote(self.revision, safe='')}" + (f"/{quote(folder)}" if folder else "")

    @property
    def _url(self) -> str:
        name = self.repo.name
        return ("/datasets/" if name.kind == "dataset" else "/") + f"{quote(name.owner)}/{quote(name.name)}"


def kind_of(request: Request) -> RepoKind:
    """What the address is about."""
    return "dataset" if request.url.path.startswith("/datasets/") else "model"


async def open_repo(request: Request, visit: Visit, revision: str = MAIN) -> Opened:
    """The repository that the address names. Raises `NotFoundError`, `MovedRepo`, `TakenDownError`."""
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    return await visit.hub.call(load_repo, visit, kind_of(request), name, revision)


def load_repo(visit: Visit, kind: RepoKind, name: str, revision: str = MAIN) -> Opened:
    """The repository of that name. Raises `NotFoundError`, `MovedRepo`, `TakenDownError`."""
    hub, who = visit.hub, visit.who
    repo = hub.repo(who, kind, name)
    if repo.head is None and revision == MAIN:
        commit, entries = None, []
    else:
        commit = hub.commit(repo, revision)
        entries = hub.registry.history.files(commit)
    digests = [entry.digest for entry in entries if entry.digest]
    facts = hub.registry.blobs.facts_of(digests)
    may_write = who.may_write(repo.owner_id, repo.id)
    return Opened(
        repo, revision, commit, entries, facts, signatures_of(hub, repo), likes_it(hub, who, repo), may_write,
        hub.config.files_url,
    )  # fmt: skip


def read_text(hub: Hub, entry: Entry, most_bytes: int) -> str | None:
    """A file as text; None where it is larger or no text."""
    if entry.size_bytes > most_bytes or not entry.digest:
        return None
    try:
        with hub.registry.blobs.open(entry.digest) as source:
            content = source.read(most_bytes)
    except NotFoundError:
        return None
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def revision_and_path(request: Request) -> tuple[str, str]:
    """What follows `tree`, `blob` and the like in the address."""
    return split_revision(path_segments(request, 4 if kind_of(request) == "dataset" else 3))


def repo_routes(suffix: str, endpoint: Callable[..., Any], method: str = "GET") -> tuple[Route, Route]:
    """The same page for datasets and for models."""
    return (
        Route(f"/datasets/{{owner}}/{{name}}{suffix}", endpoint, methods=[method]),
        Route(f"/{{owner}}/{{name}}{suffix}", endpoint, methods=[method]),
    )
