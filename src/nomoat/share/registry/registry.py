"""A registry: its folder, its database, its blobs, and the parts that work on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nomoat.share.blobs.files import FileBlobs
from nomoat.share.blobs.store import BlobStore
from nomoat.share.registry.accounts import Accounts
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.claims import Claims
from nomoat.share.registry.database import Database
from nomoat.share.registry.history import History
from nomoat.share.registry.inspection import Inspection, inspect_nothing
from nomoat.share.registry.plain_search import Search
from nomoat.share.registry.repos import Repos

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
        config.root.mkdir(parents=True, exist_ok=True)
        self.database = Database(config.database_url or str(config.root / "hub.db"))
        self.store: BlobStore = FileBlobs(config.root / "blobs")
        self.blobs = BlobRecords(self.database, self.store, config.quota_bytes)
        self.accounts = Accounts(self.database)
        self.repos = Repos(self.database, self.accounts)
        self.history = History(self.database, self.blobs)
        self.search = Search(self.database)
        self.claims = Claims(self.database, self.blobs)
        self.inspection: Inspection = inspect_nothing

    def close(self) -> None:
        """Close the database."""
        self.database.close()
