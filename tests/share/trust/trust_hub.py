"""A hub with a person and an admin, and commits made of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile, Commit, DeletePath
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.repos import Repo

__all__ = ["Hub", "open_hub"]


@dataclass(frozen=True)
class Hub:
    """A registry, and what tests do with it."""

    registry: Registry
    me: Identity
    admin: Identity

    def name(self, text: str = "me/notes") -> RepoName:
        """A model repository's name."""
        return RepoName.parse("model", text)

    def repo(self, text: str = "me/notes", **options: bool) -> Repo:
        """A new repository."""
        return self.registry.repos.create(
            self.registry.accounts.identity(text.split("/")[0]), self.name(text), **options
        )

    def commit(self, repo: Repo, files: dict[str, bytes | None], *, lfs: bool = False) -> Commit:
        """Add files, or remove those that are None."""
        operations: list[AddFile | DeletePath] = []
        for path, content in files.items():
            if content is None:
                operations.append(DeletePath(path))
                continue
            info = self.registry.blobs.add(content)
            operations.append(AddFile(path, info.digest, info.size_bytes, blob_oid(content), lfs))
        who = self.registry.accounts.identity(repo.name.owner)
        return self.registry.history.commit(repo, operations, who, "change")

    def again(self, repo: Repo) -> Repo:
        """The repository as it is now."""
        return self.registry.repos.get(self.admin, repo.name)


def open_hub(root: Path) -> Hub:
    """A new hub, known to me, you and root."""
    registry = Registry(RegistryConfig(root))
    for person in ("me", "you"):
        registry.accounts.add(person)
    registry.accounts.add("root", is_admin=True)
    return Hub(registry, registry.accounts.identity("me"), registry.accounts.identity("root"))
