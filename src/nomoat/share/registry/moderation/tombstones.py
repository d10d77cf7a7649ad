"""Tombstones: which repositories and blobs are taken down, why, and by whose signed statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from sqlalchemy import Connection, delete, insert, select, update

from nomoat.share.names import RepoKind, RepoName, check_digest
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.holders import digests_of
from nomoat.share.registry.schema import repos, tombstones
from nomoat.share.trust.envelope import open_bundle

__all__ = [
    "LONGEST_REASON",
    "PREDICATE",
    "Target",
    "bury",
    "key_of",
    "parse_target",
    "signature_of",
    "unbury",
]

PREDICATE = "urn:nomoat:takedown:v1"
LONGEST_REASON = 2000
Target = RepoName | str
"""A repository, or a blob by its digest."""


def parse_target(text: str) -> Target:
    """`model:owner/name`, `dataset:owner/name` or `sha256:...`. Raises `InputError`."""
    kind, _, name = text.partition(":")
    if kind in {"model", "dataset"}:
        return RepoName.parse(cast(RepoKind, kind), name)
    return check_digest(text)


def bury(connection: Connection, keys: Iterable[str], reason: str, bundle: str) -> None:
    """Tombstones, where none with a bundle stands: that one has a reason of its own.

    One without a bundle holds only until another repository holds that blob, too.
    """
    content = open_bundle(bundle.encode(), []).statement if bundle else {}
    for key in sorted(keys):
        if signature_of(connection, key):
            continue
        connection.execute(delete(tombstones).where(tombstones.c.target == key))
        connection.execute(insert(tombstones).values(
            target=key, reason=reason, statement=content, signature=bundle, created_ms=now_ms()
        ))  # fmt: skip


def unbury(connection: Connection, target: Target, digests: Iterable[str]) -> None:
    """Remove the tombstone of `target`, those of `digests`, and those that stand only because of them."""
    for key in {key_of(target), *digests}:
        connection.execute(delete(tombstones).where(tombstones.c.target == key))
    if isinstance(target, RepoName):
        connection.execute(update(repos).where(repos.c.key == target.key).values(taken_down=False))
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.key == target.key)) or 0
        for each in digests_of(connection, repo_id):
            where = (tombstones.c.target == each.digest, tombstones.c.signature == "")
            connection.execute(delete(tombstones).where(*where))


def signature_of(connection: Connection, key: str) -> str:
    """The bundle by which something was taken down; empty where it was not, or only because of something else."""
    query = select(tombstones.c.signature).where(tombstones.c.target == key).limit(1)
    return connection.scalar(query) or ""


def key_of(target: Target) -> str:
    """By what it is known in the database and in statements."""
    return target if isinstance(target, str) else target.key
