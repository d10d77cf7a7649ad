"""Git's ids for contents, trees and commits, so that what a hub calls a commit is what git would call it.

Source: the formats of git's loose objects and of Git LFS pointers (version 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["EMPTY_TREE", "GitEntry", "blob_oid", "commit_oid", "lfs_pointer", "tree_oid"]

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


class GitEntry(NamedTuple):
    """One line of a tree; `kind` is blob or tree."""

    name: str
    kind: str
    oid: str


def blob_oid(content: bytes) -> str:
    """Id of a file's content."""
    return _oid("blob", content)


def lfs_pointer(digest: str, size_bytes: int) -> bytes:
    """What git holds of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid {digest}\nsize {size_bytes}\n".encode()


def tree_oid(entries: Iterable[GitEntry]) -> str:
    """Id of a folder."""
    # Git sorts folders as if their names ended with a slash.
    ordered = sorted(entries, key=lambda entry: f"{entry.name}/" if entry.kind == "tree" else entry.name)
    parts = [
        (b"40000 " if entry.kind == "tree" else b"100644 ")
        + entry.name.encode()
        + b"\0"
        + bytes.fromhex(entry.oid)
        for entry in ordered
    ]
    return _oid("tree", b"".join(parts))


def commit_oid(tree: str, parent: str, author: str, seconds: int, message: str) -> str:
    """Id of a commit; `author` is `name <address>`, `parent` may be empty."""
    who = f"{author} {seconds} +0000"
    head = f"tree {tree}\n" + (f"parent {parent}\n" if parent else "")
    return _oid("commit", f"{head}author {who}\ncommitter {who}\n\n{message}\n".encode())


def _oid(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
