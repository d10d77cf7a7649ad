"""fsck of a registry: every promise that it made is looked at again, from the bytes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from nomoat.base.errors import NomoatError
from nomoat.base.progress import Progress, Silent
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.git_objects import EMPTY_TREE, GitEntry, commit_oid, tree_oid
from nomoat.share.registry.history import author_line
from nomoat.share.registry.holders import digests_of
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import blobs, commits, refs, repo_blobs, repos, tree_entries
from nomoat.share.registry.search.index import out_of_step

__all__ = ["Checked", "Problem", "check"]

_RESTORE = "restore a backup into a new folder: nomoat hub restore FOLDER --root NEW"
_REPAIR = "nomoat hub check --repair makes it anew"
_REMEDIES = {
    "blob": "send the same file again (nomoat push, huggingface_hub, or the hub's upload page), which puts it in its"
    f" place; if only its checksums are wrong, nomoat hub check --repair; else {_RESTORE}",
    "repo": _REPAIR,
    "search": _REPAIR,
    "tree": _RESTORE,
    "commit": _RESTORE,
    "ref": _RESTORE,
    "event": f"somebody changed the hub's log or its key; {_RESTORE}",
}


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was promised: its kind, what it is about, and what is wrong."""

    kind: str
    what: str
    problem: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.kind]


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what is wrong."""

    repos: int
    commits: int
    trees: int
    blobs: int
    bytes: int
    problems: tuple[Problem, ...]


def check(registry: Registry, *, quick: bool = False, progress: Progress | None = None) -> Checked:
    """Look at everything that a repository holds. `quick` reads no content, only sizes and lengths of checksums.

    A blob that is damaged or missing is marked so. Nothing else is changed.
    """
    progress, problems = progress or Silent(), list[Problem]()
    with registry.database.read() as connection:
        wanted = _held(connection)
        trees = _check_trees(connection, problems)
        n_commits = _check_commits(connection, problems, trees)
        n_repos = _check_repos(connection, problems)
        if count := out_of_step(connection):
            problems.append(Problem("search", "index", f"{count} repositories are not in step"))
    progress.start("Reading", sum(wanted.values()) / 1e6, "MB")
    for digest, size in wanted.items():
        problems += _check_blob(registry, digest, size, quick)
        progress.advance(size / 1e6)
    progress.finish()
    problems += [Problem("event", "log", problem) for problem in registry.events.verify()]
    return Checked(n_repos, n_commits, len(trees), len(wanted), sum(wanted.values()), tuple(problems))


def _held(connection: Connection) -> dict[str, int]:
    """Blobs that repositories hold, with their sizes."""
    joined = select(blobs.c.digest, blobs.c.size_bytes).join(
        repo_blobs, repo_blobs.c.digest == blobs.c.digest
    )
    return {row.digest: row.size_bytes for row in connection.execute(joined.distinct())}


def _check_blob(registry: Registry, digest: str, size: int, quick: bool) -> Iterator[Problem]:
    began, info = now_ms(), registry.store.info(digest)
    if info is None or info.size_bytes != size:
        registry.blobs.mark_damaged(digest, began)
    if info is None:
        yield Problem("blob", digest, "is missing")
        return
    if info.size_bytes != size:
        yield Problem("blob", digest, f"has {info.size_bytes:,} bytes where {size:,} were stored")
    try:
        registry.store.open(digest).close()
        if not quick:
            registry.store.check(digest)
    except NomoatError as error:
        registry.blobs.mark_damaged(digest, began)
        yield Problem("blob", digest, error.message)


def _check_trees(connection: Connection, problems: list[Problem]) -> set[str]:
    """Ids of all trees, recomputed from their rows."""
    rows = connection.execute(select(tree_entries).order_by(tree_entries.c.tree))
    found, current, entries, below = {EMPTY_TREE}, "", list[GitEntry](), dict[str, str]()

    def close() -> None:
        if entries and tree_oid(entries) != current:
            problems.append(Problem("tree", current, "its rows give another id"))

    for row in rows:
        if row.tree != current:
            close()
            current, entries = row.tree, []
            found.add(current)
        entries.append(GitEntry(row.name, row.kind, row.oid))
        if row.kind == "tree":
            below[row.oid] = row.tree
    close()
    problems += [
        Problem("tree", oid, f"is missing in {above}") for oid, above in below.items() if oid not in found
    ]
    return found


def _check_commits(connection: Connection, problems: list[Problem], trees: set[str]) -> int:
    known = {tuple(row) for row in connection.execute(select(commits.c.repo_id, commits.c.oid))}
    for row in connection.execute(select(commits)):
        words = f"{row.title}\n\n{row.message}" if row.message else row.title
        if (
            commit_oid(row.tree, row.parent, author_line(row.author), row.created_ms // 1000, words)
            != row.oid
        ):
            problems.append(Problem("commit", row.oid, "its content gives another id"))
        if row.parent and (row.repo_id, row.parent) not in known:
            problems.append(Problem("commit", row.oid, f"its parent {row.parent} is missing"))
        if row.tree not in trees:
            problems.append(Problem("commit", row.oid, f"its tree {row.tree} is missing"))
    for ref in connection.execute(select(refs)):
        if (ref.repo_id, ref.commit) not in known:
            problems.append(Problem("ref", ref.name, f"points to {ref.commit}, which is missing"))
    return len(known)


def _check_repos(connection: Connection, problems: list[Problem]) -> int:
    recorded = set(connection.scalars(select(blobs.c.digest)))
    rows = connection.execute(select(repos.c.id, repos.c.full_name, repos.c.head)).all()
    main = select(refs.c.repo_id, refs.c.commit).where(refs.c.name == "refs/heads/main")
    heads = {row.repo_id: row.commit for row in connection.execute(main)}
    for row in rows:
        if row.head != heads.get(row.id):
            problems.append(
                Problem("repo", row.full_name, f"shows {row.head}, but main is at {heads.get(row.id)}")
            )
        held = set(connection.scalars(select(repo_blobs.c.digest).where(repo_blobs.c.repo_id == row.id)))
        for blob in digests_of(connection, row.id):
            if blob.digest not in held or blob.digest not in recorded:
                problems.append(
                    Problem("repo", row.full_name, f"has {blob.digest}, which is not recorded as its own")
                )
    return len(rows)
