"""Who vouches for a commit: the signature in it, verified with the keys of those who may sign for its owner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from nomoat.base.errors import NomoatError
from nomoat.share.names import RepoName
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.database import Database
from nomoat.share.registry.history import Commit, History
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import members, moves, signatures, users
from nomoat.share.registry.trees import Entry
from nomoat.share.trust.keys import PublicKey
from nomoat.share.trust.signatures import SIGNATURE_NAME, Verification, verify

__all__ = ["Vouching"]

_MOST_BYTES = 16 << 20


class Vouching:
    """Verifies signatures of commits and remembers those that hold.

    One that held when it was made stays valid after its owner has registered another key: `signer` says which it was.
    """

    def __init__(self, database: Database, history: History, blobs: BlobRecords) -> None:
        self._database, self._history, self._blobs = database, history, blobs

    def trusted(self, repo: Repo, commit: Commit) -> list[PublicKey]:
        """Keys registered by the owner, by those who may write for that organisation, and by the commit's author."""
        writers = select(members.c.user_id).where(
            members.c.org_id == repo.owner_id, members.c.role.in_(["admin", "write"])
        )
        who = (users.c.id == repo.owner_id) | (users.c.name == commit.author) | users.c.id.in_(writers)
        query = select(users.c.public_key).where(who, users.c.public_key != "")
        with self._database.read() as connection:
            return list(_keys(row.public_key for row in connection.execute(query)))

    def signers(self, repo: Repo) -> dict[str, PublicKey]:
        """The key of each person who may sign for the repository's owner, by name."""
        writers = select(members.c.user_id).where(
            members.c.org_id == repo.owner_id, members.c.role.in_(["admin", "write"])
        )
        where = (users.c.id == repo.owner_id) | users.c.id.in_(writers)
        query = select(users.c.name, users.c.public_key).where(where, users.c.public_key != "")
        with self._database.read() as connection:
            rows = list(connection.execute(query))
        return {row.name: key for row in rows for key in _keys([row.public_key])}

    def verification(self, repo: Repo, commit: Commit) -> Verification:
        """What the signature in a commit is worth; one that held before is not computed again."""
        where = (signatures.c.repo_id == repo.id, signatures.c.commit == commit.oid, signatures.c.valid)
        with self._database.read() as connection:
            known = connection.scalar(select(signatures.c.details).where(*where).limit(1))
        return _remembered(known) if known else self.record(repo, commit, self._history.files(commit))

    def record(self, repo: Repo, commit: Commit, files: Iterable[Entry]) -> Verification:
        """Verify now, and keep the result."""
        files = list(files)
        with self._database.read() as connection:
            names = _names(connection, repo)
        found = verify(self._bundle(files), files, self.trusted(repo, commit), names)
        if found.state != "unsigned":
            self._keep(repo, commit, found)
        return found

    def read(self, files: Iterable[Entry], path: str, most_bytes: int = _MOST_BYTES) -> bytes | None:
        """A small file of a commit; None where there is none, or it is too large to be what it should be."""
        entry = next((each for each in files if each.path == path and each.is_file), None)
        if entry is None or entry.digest is None or entry.size_bytes > most_bytes:
            return None
        with self._blobs.open(entry.digest) as reader:
            return reader.read()

    def _bundle(self, files: list[Entry]) -> bytes | None:
        bundle = self.read(files, SIGNATURE_NAME)
        # Something of that name that is no bundle is a bad signature, not a missing one.
        return b"" if bundle is None and any(each.path == SIGNATURE_NAME for each in files) else bundle

    def _keep(self, repo: Repo, commit: Commit, found: Verification) -> None:
        key_id = found.signer.key_id if found.signer else found.claimed[:64]
        details = {**found.as_json(), "public_key": found.signer.pem if found.signer else ""}
        row = {"repo_id": repo.id, "commit": commit.oid, "key_id": key_id, "valid": found.is_valid,
               "details": details}  # fmt: skip
        where = (signatures.c.repo_id == repo.id, signatures.c.commit == commit.oid)
        with self._database.write() as connection:
            connection.execute(delete(signatures).where(*where))
            connection.execute(insert(signatures).values(row))


def _names(connection: Connection, repo: Repo) -> list[RepoName]:
    """Its name, and those that it had: a signature from before a move names the former one."""
    former = connection.execute(select(moves.c.key).where(moves.c.repo_id == repo.id))
    keys = [row.key.partition(":")[2] for row in former]
    return [repo.name, *(RepoName.parse(repo.name.kind, key) for key in keys)]


def _keys(pems: Iterable[str]) -> Iterable[PublicKey]:
    for pem in pems:
        try:
            yield PublicKey.parse(pem)
        except NomoatError:
            continue  # registered by an older or foreign program: it can vouch for nothing


def _remembered(details: dict[str, Any]) -> Verification:
    return Verification(
        "verified", PublicKey.parse(details["public_key"]), details["claimed"], details["repository"],
        details["manifest_digest"], details["signed_at"],
    )  # fmt: skip
