"""Who vouches for what is pulled: the signature in the repository, against the key that its owner is known by."""

from __future__ import annotations

from pathlib import Path

from nomoat.share.client.remote import RemoteRepo, Snapshot

__all__ = ["check_signature"]


def check_signature(remote: RemoteRepo, snapshot: Snapshot, home: Path, trust_new_key: bool) -> str:
    """In words, who signed the files; empty where nobody did. Raises `RefusedError` where it does not hold."""
    return ""
