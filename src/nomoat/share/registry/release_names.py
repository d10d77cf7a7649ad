"""What releases were ever called: `owner/name@v1` means one commit for ever, wherever its repository went.

A release is remembered under every name that its repository has had. So neither a new repository of an old name, nor
one that moves there, can give the name of a release to anything else: no other release, no tag and no branch.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select

from nomoat.share.errors import ConflictError
from nomoat.share.names import RepoName
from nomoat.share.registry.database import Database
from nomoat.share.registry.schema import properties, refs

__all__ = ["keep_release", "keep_releases", "require_never_released", "take_releases_along"]

_TAGS = "refs/tags/"
_REMEDY = "choose another name"


def keep_release(database: Database, connection: Connection, repo: RepoName, tag: str, commit: str) -> None:
    """Let the tag's short name mean `commit` for ever. Raises `ConflictError` where it meant another one."""
    _note(database, connection, repo, tag, commit)
    known = _known(connection, repo, tag)
    if known != commit:
        raise ConflictError(f"{tag} of {repo} was another release before, of {known}",
                            "give the new release another name")  # fmt: skip


def require_never_released(connection: Connection, repo: RepoName, name: str) -> None:
    """Raise `ConflictError` where a tag that may move, or a branch, would take the name of a former release."""
    known = _known(connection, repo, name)
    if known is not None:
        raise ConflictError(
            f"{name} of {repo} was a release before, of {known}: it means nothing else", _REMEDY
        )


def keep_releases(database: Database, connection: Connection, repo: RepoName, repo_id: int) -> None:
    """Remember all releases that a repository has under its name `repo`, before that goes to another one.

    Some are not yet: those of repositories that were moved by versions which did not remember.
    """
    for name, commit, immutable in _names(connection, repo_id):
        if immutable:
            _note(database, connection, repo, name, commit)


def take_releases_along(
    database: Database, connection: Connection, source: RepoName, target: RepoName, repo_id: int
) -> None:
    """A repository moves. Raises `ConflictError` where one of its names was a release of another one at `target`."""
    keep_releases(database, connection, source, repo_id)
    for name, commit, immutable in _names(connection, repo_id):
        if immutable:
            keep_release(database, connection, target, name, commit)
        else:
            require_never_released(connection, target, name)


def _names(connection: Connection, repo_id: int) -> list[tuple[str, str, bool]]:
    """Short name and commit of each branch and tag, and whether it is a release."""
    rows = connection.execute(select(refs).where(refs.c.repo_id == repo_id))
    return [(row.name.split("/", 2)[2], row.commit, row.immutable) for row in rows]


def _note(database: Database, connection: Connection, repo: RepoName, tag: str, commit: str) -> None:
    """Unless it meant something before."""
    row = {"name": _property(repo, tag), "value": commit}
    connection.execute(database.insert_missing(properties).values(row))


def _known(connection: Connection, repo: RepoName, name: str) -> str | None:
    query = select(properties.c.value).where(properties.c.name == _property(repo, name))
    return connection.scalar(query)


def _property(repo: RepoName, name: str) -> str:
    digest = hashlib.sha256(f"{repo.key} {_TAGS}{name}".encode()).hexdigest()
    return f"release:{digest[:48]}"
