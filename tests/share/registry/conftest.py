"""Registries in SQLite and in a PostgreSQL cluster of the tests' own, with people in them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile, Commit
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.repos import Repo


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
def new_postgresql_database(postgresql_cluster: str) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""

    def make() -> str:
        name = f"hub_{secrets.token_hex(4)}"
        engine = create_engine(postgresql_cluster, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return postgresql_cluster.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(scope="session")
def postgresql_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's PostgreSQL on a socket in a folder; its server refuses to run as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tmp_path_factory.mktemp("pg", numbered=True))
    if os.geteuid() == 0:
        # The folders of pytest are closed to others; a socket's path must be short besides.
        folder = Path("/tmp") / f"pg-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o755)
        shutil.chown(folder, "postgres")
    server = programs[-1].parent
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c shared_buffers=32MB -c max_connections=60"
    _as_postgres(server / "initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    log = str(folder / "log")
    _as_postgres(server / "pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", log, "-w", "start")
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        _as_postgres(server / "pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres(*command: str | Path) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(
        [str(part) for part in command], check=True, user=user, group=user, extra_groups=[] if user else None,
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=60,
    )  # fmt: skip
