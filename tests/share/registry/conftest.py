"""Registries in SQLite and in PostgreSQL, with people in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile, Commit
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.repos import Repo
from own_servers import PostgresCluster


@dataclass
class Hub:
    """A registry with short ways to do in tests what clients do in several steps."""

    registry: Registry

    def person(self, name: str, *, is_admin: bool = False) -> Identity:
        if self.registry.accounts.find(name) is None:
            self.registry.accounts.add(name, is_admin=is_admin)
        return self.registry.accounts.identity(name)

    def repo(self, full_name: str, *, private: bool = False) -> Repo:
        who = self.person(full_name.split("/")[0])
        return self.registry.repos.create(who, RepoName.parse("model", full_name), private=private)

    def add(self, content: bytes, path: str = "file.bin") -> AddFile:
        info = self.registry.blobs.add(content)
        return AddFile(path, info.digest, info.size_bytes, blob_oid(content))

    def push(self, repo: Repo, files: dict[str, bytes], title: str = "change", **more: str) -> Commit:
        operations = [self.add(content, path) for path, content in files.items()]
        who = self.person(repo.name.owner)
        return self.registry.history.commit(repo, operations, who, title, **more)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty registry as people have it: SQLite, files."""
    registry = Registry(RegistryConfig(tmp_path / "hub"))
    yield Hub(registry)
    registry.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    """The same once in SQLite and once in PostgreSQL."""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    registry = Registry(RegistryConfig(tmp_path / "hub", database_url=url))
    yield Hub(registry)
    registry.close()


@pytest.fixture
def postgresql_url(new_postgresql_database: Callable[[], str]) -> str:
    """An empty database."""
    return new_postgresql_database()


@pytest.fixture
def new_postgresql_database(postgresql: PostgresCluster) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""
    return postgresql.new_database
