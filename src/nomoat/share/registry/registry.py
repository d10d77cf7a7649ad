"""A registry: its folder, its database, its blobs, and the parts that work on them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nomoat.base.errors import InputError, MissingExtraError
from nomoat.base.files import private_folder
from nomoat.base.settings import BucketSettings
from nomoat.share.blobs.files import FileBlobs
from nomoat.share.blobs.store import BlobStore
from nomoat.share.registry.accounts import Accounts
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.claims import Claims
from nomoat.share.registry.database import Database
from nomoat.share.registry.describe import describe
from nomoat.share.registry.discussions import Discussions
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.history import Commit, History
from nomoat.share.registry.inspection import Inspection, inspect_nothing
from nomoat.share.registry.lineage.lineage import Lineage
from nomoat.share.registry.lineage.vouching import Vouching
from nomoat.share.registry.moderation.reports import Reports
from nomoat.share.registry.moderation.takedown import Takedowns
from nomoat.share.registry.places import settle
from nomoat.share.registry.relations import Relations
from nomoat.share.registry.repos import Repo, Repos
from nomoat.share.registry.samples import Samples
from nomoat.share.registry.search.search import Search

__all__ = ["Registry", "RegistryConfig"]


@dataclass(frozen=True)
class RegistryConfig:
    """Where a registry keeps what. By default everything is in `root`."""

    root: Path
    database_url: str = ""
    """SQLAlchemy's URL of a PostgreSQL database; empty: `root/hub.db`."""
    bucket_url: str = ""
    """`s3://bucket/prefix`; empty: `root/blobs`."""
    quota_bytes: int | None = None
    """What an account may store unless it has a quota of its own; None: any amount."""


class Registry:
    """Everything a hub knows. Safe to use from several threads; other processes may use the same root."""

    def __init__(self, config: RegistryConfig) -> None:
        """Open, or make an empty one. Raises `InputError`, `DiskFullError`."""
        self.config = config
        private_folder(config.root)  # private repositories are in it, as plain files
        self.store = _blob_store(config)  # first: a bucket's address that is wrong leaves no hub behind
        self.database = Database(_database_url(config))
        settle(config.root, (config.database_url, config.bucket_url), self.database, self.store)
        self.events = EventLog(self.database, config.root)
        self.events.require_own_key()
        self.blobs = BlobRecords(self.database, self.store, config.quota_bytes)
        self.accounts = Accounts(self.database, self.events)
        self.repos = Repos(self.database, self.accounts, self.events)
        self.history = History(self.database, self.blobs, self.events)
        self.search = Search(self.database)
        self.claims = Claims(self.database, self.blobs)
        self.relations = Relations(self.database)
        self.discussions = Discussions(self.database)
        self.inspection: Inspection = inspect_nothing
        self.reports = Reports(self.database)
        self.samples = Samples(self.database, self.events)
        self.takedowns = Takedowns(self.database, self.events)
        self.vouching = Vouching(self.database, self.history, self.blobs)
        self.lineage = Lineage(self.database, self.vouching)
        self.history.after_commit = self._look_at

    def _look_at(self, repo: Repo, commit: Commit) -> None:
        """Find out who vouches for a new commit, what it was made from, and how the gallery shows it."""
        files = self.history.files(commit)
        try:
            self.vouching.record(repo, commit, files)
            if self.history.resolve(repo).oid == commit.oid:
                describe(self.database, self.blobs, repo, files)
                self.lineage.record(repo, commit, files)
        except Exception:
            # The commit is made: what cannot be read in it (a blob damaged since) must not say that it is not.
            logging.getLogger("nomoat.hub").exception("%s: %s could not be described", repo.name, commit.oid)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _database_url(config: RegistryConfig) -> str:
    own = config.root / "hub.db"
    if config.database_url and own.exists():
        raise InputError(f"{own}: the hub in this folder has a database already",
                         "start it without --database, or a new hub with another --root")  # fmt: skip
    return config.database_url or str(own)


def _blob_store(config: RegistryConfig) -> BlobStore:
    if not config.bucket_url:
        return FileBlobs(config.root / "blobs")
    if find_spec("obstore") is None:
        raise MissingExtraError("hub", "obstore")
    from nomoat.share.blobs.bucket import BucketBlobs

    return BucketBlobs(config.bucket_url, config.root / "incoming", BucketSettings.from_environment())
