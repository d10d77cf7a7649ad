"""Whose key is whose, as this machine learned it: trusted at first use, and from then on expected.

Kept in `home/trust/known_keys.json`, a map from `HUB/OWNER` to the owner's public key.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_write_json, disk_errors
from nomoat.share.errors import RefusedError
from nomoat.share.names import check_owner
from nomoat.share.trust.keys import PublicKey

__all__ = ["ChangedKeyError", "KnownKeys"]


class ChangedKeyError(RefusedError):
    """An owner signs with another key than before: a new computer, or somebody else."""

    code = "changed_key"


class KnownKeys:
    """The keys of the owners from whom this machine has pulled."""

    def __init__(self, home: Path) -> None:
        self.path = home / "trust" / "known_keys.json"

    def get(self, hub: str, owner: str) -> PublicKey | None:
        """The key that `owner` of `hub` (a host, with its port if it has one) is known by."""
        entry = self._read().get(_name(hub, owner))
        return PublicKey.parse(entry["public_key"]) if entry else None

    def meet(self, hub: str, owner: str, key: PublicKey) -> bool:
        """Take `key` for the owner's if none is known yet; whether it was new.

        Raises `ChangedKeyError` where another one is known.
        """
        with self._changing() as entries:
            known = entries.get(_name(hub, owner))
            if known is None:
                entries[_name(hub, owner)] = _entry(key)
                return True
        if PublicKey.parse(known["public_key"]) == key:
            return False
        raise ChangedKeyError(
            f"{owner} on {hub} signs with another key ({key.key_id[:16]}...) than the one known here since "
            f"{known['since'][:10]} ({known['key_id'][:16]}...): either they made a new one, or somebody else "
            "pretends to be them",
            f"ask {owner} by another way than this hub for the first digits of their key; if they are "
            f"{key.key_id[:16]}, repeat the command with --trust-new-key",
        )

    def accept(self, hub: str, owner: str, key: PublicKey) -> None:
        """From now on `key` is the owner's: the conscious override. Former ones are kept for the record."""
        with self._changing() as entries:
            known = entries.get(_name(hub, owner))
            if known and PublicKey.parse(known["public_key"]) == key:
                return
            former = [*known.get("former", []), known["key_id"]] if known else []
            entries[_name(hub, owner)] = _entry(key, former)

    def forget(self, hub: str, owner: str) -> None:
        """Know nothing of the owner any more."""
        with self._changing() as entries:
            entries.pop(_name(hub, owner), None)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The entries, written back if changed; another process that changes them waits meanwhile."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = self._read()
            entries = dict(before)
            yield entries
            if entries != before:
                atomic_write_json(self.path, {"schema": 1, "keys": entries})
        finally:
            os.close(folder)

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["keys"]
            for entry in entries.values():
                PublicKey.parse(entry["public_key"])
            return dict(entries)
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # An empty list instead would silently trust whoever comes next.
            raise BadFileError(self.path, "", f"is no list of known keys ({error})",
                               "restore it, or delete it to trust again at first use") from error  # fmt: skip


def _name(hub: str, owner: str) -> str:
    return f"{hub.lower()}/{check_owner(owner).lower()}"


def _entry(key: PublicKey, former: list[str] | None = None) -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"key_id": key.key_id, "public_key": key.pem, "since": since, "former": former or []}
