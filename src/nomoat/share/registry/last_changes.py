"""Which commit changed a file or folder last: found by walking back until its id was another one."""

from __future__ import annotations

from collections.abc import Iterable

from nomoat.share.registry.history import Commit, History
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["last_changes"]

_MOST_COMMITS = 100


def last_changes(history: History, repo: Repo, commit: Commit, entries: Iterable[Entry]) -> dict[str, Commit]:
    """The last change of each entry of `commit`, by path. What is older than 100 commits is left out."""
    open_paths = {entry.path: entry.oid for entry in entries}
    found: dict[str, Commit] = {}
    now = commit
    for before in history.log(repo, commit.oid, _MOST_COMMITS, 1):
        if not open_paths:
            return found
        then = (
            {entry.path: entry.oid for entry in history.files(before)}
            if before.tree != now.tree
            else open_paths
        )
        for path in [path for path, oid in open_paths.items() if then.get(path) != oid]:
            found[path] = now
            del open_paths[path]
        now = before
    if not now.parent:
        found |= dict.fromkeys(open_paths, now)
    return found
