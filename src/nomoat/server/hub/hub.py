"""A hub: a registry, and how it is seen from outside."""

from __future__ import annotations

import functools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.coming import Coming
from nomoat.server.hub.downloads import Downloads
from nomoat.server.hub.errors import ENTRY, GATED, REPO, REVISION, HubProblem, MovedRepo
from nomoat.server.hub.indexing import Indexing
from nomoat.server.hub.tickets import Tickets
from nomoat.server.hub.turns import Turns
from nomoat.share.blobs.parts import PartFiles
from nomoat.share.errors import GatedError
from nomoat.share.names import MAIN, RepoKind, RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.history import Commit
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import properties
from nomoat.share.registry.trees import Entry
from nomoat.share.xet.intake import Intake

__all__ = ["Hub", "HubConfig", "Limits"]

_READERS = 8
_PAINTERS = 2
P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Limits:
    """What a hub takes from one client. Sizes in bytes; a rate of 0 is no limit."""

    json_bytes: int = 4 << 20
    """A JSON body."""
    commit_bytes: int = 256 << 20
    """A commit's body: it carries small files."""
    regular_bytes: int = 10 << 20
    """A file inside a commit; larger ones are sent apart."""
    multipart_above_bytes: int = 4 << 30
    """Larger files are sent in parts, so that a broken connection costs a part."""
    part_bytes: int = 512 << 20
    part_seconds: float = 30.0
    """How long a client may send nothing in the middle of a body."""
    slowest_bytes_per_second: int = 1024
    """A body that comes more slowly, on average after `part_seconds`, is refused."""
    requests_per_minute: int = 6000
    """Of one token, or one address without a token."""
    ticket_seconds: int = 24 * 3600
    """How long the address of an upload is valid."""


@dataclass(frozen=True)
class HubConfig:
    """How a hub is seen from outside."""

    host: str = "127.0.0.1"
    """The address that it listens on."""
    public_url: str = ""
    """As clients write it, without a slash at the end; empty: as they name it in the header Host."""
    files_url: str = ""
    """A second origin for what users uploaded, so that it never runs beside somebody's session; empty: none."""
    redirects: bool = True
    """Whether clients fetch large files from the bucket itself, by addresses that are good for an hour."""
    limits: Limits = field(default_factory=Limits)


class Hub:
    """What every request handler works with."""

    def __init__(self, registry: Registry, config: HubConfig | None = None) -> None:
        self.registry, self.config = registry, config or HubConfig()
        self.started = time.time()
        self.log = logging.getLogger("nomoat.hub")
        # Downloads have threads of their own, so that many of them never keep a small request waiting.
        self.readers = CapacityLimiter(_READERS)
        # Pictures are decoded one after the other; more threads would only wait.
        self.painters = CapacityLimiter(_PAINTERS)
        self.tickets = Tickets(registry.database)
        self.parts = PartFiles(registry.config.root / "uploads")
        self.coming = Coming()
        self.intake, self.turns = Intake(registry), Turns()
        self.indexing = Indexing(self.intake, self.log)
        self.downloads = Downloads(registry.repos, self.log.error)

    @functools.cached_property
    def link_key(self) -> bytes:
        """What signs addresses that only who was shown them may use. The same after a restart."""
        database = self.registry.database
        with database.write() as connection:
            row = {"name": "link_key", "value": secrets.token_hex(32)}
            connection.execute(database.insert_missing(properties).values(row))
        return bytes.fromhex(database.property("link_key") or "")

    async def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The result of `function` in a thread: the registry waits for disks, the event loop must not."""
        return await run_in_threadpool(functools.partial(function, *arguments, **named))

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """As `call`, in one of the threads that read blobs."""
        return await to_thread.run_sync(function, *arguments, limiter=self.readers)

    # -- what most handlers begin with; all synchronous, for use inside `call` ------------------------

    def repo(self, who: Identity, kind: RepoKind, full_name: str) -> Repo:
        """The repository. Raises `HubProblem`, and `MovedRepo` where it has another name now."""
        with REPO.instead(who):
            name = RepoName.parse(kind, full_name)
            repo = self.registry.repos.get(who, name)
        if repo.name.key != name.key:
            raise MovedRepo(name, repo.name)
        return repo

    def repo_to_download(self, who: Identity, kind: RepoKind, full_name: str) -> Repo:
        """As `repo`, where its owner lets `who` in."""
        repo = self.repo(who, kind, full_name)
        try:
            return self.registry.repos.get_for_download(who, repo.name)
        except GatedError as error:
            raise HubProblem.of(error, GATED, 403 if who.known else 401) from error

    def repo_to_write(self, who: Identity, kind: RepoKind, full_name: str) -> Repo:
        """As `repo`, where `who` may change it."""
        who.require_known()
        repo = self.repo(who, kind, full_name)
        return self.registry.repos.get_for_writing(who, repo.name)

    def commit(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The commit of a revision. Raises `HubProblem`."""
        with REVISION.instead():
            return self.registry.history.resolve(repo, revision)

    def file(self, commit: Commit, path: str) -> Entry:
        """A file at a commit. Raises `HubProblem`."""
        with ENTRY.instead():
            entry = self.registry.history.entry(commit, path)
            if not entry.is_file:
                raise NotFoundError(f"{path[:120]!r} is a folder", "name a file")
        return entry
