"""Tokens of hubs: `home/tokens.json`, readable by its owner alone, one entry for each host."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path

from nomoat.base.errors import BadFileError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.base.settings import HuggingFaceSettings
from nomoat.share.client.references import HubAddress

__all__ = ["Tokens"]


class Tokens:
    """What `nomoat login` keeps. Reads the file afresh on every call."""

    def __init__(self, home: Path) -> None:
        self._path = home / "tokens.json"

    def hosts(self) -> list[str]:
        """Hosts that a token is kept for, sorted."""
        return sorted(self._read())

    def find(self, hub: HubAddress) -> str | None:
        """The token to show to `hub`; Hugging Face's own settings count for `hf.co` only.

        None also where the token would travel unencrypted beyond the local network.
        """
        if not hub.may_carry_secrets:
            return None
        kept = self._read().get(hub.host)
        if kept is None and hub.is_hugging_face:
            return HuggingFaceSettings.from_environment().token
        return kept

    def keep(self, host: str, token: str) -> None:
        """Remember `token` for `host`."""
        self._write({**self._read(), host: token})

    def forget(self, host: str) -> bool:
        """Forget the token of `host`; False where there was none."""
        kept = self._read()
        if host not in kept:
            return False
        self._write({other: token for other, token in kept.items() if other != host})
        return True

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(host): str(token) for host, token in content.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            raise BadFileError(
                self._path, "", "is no list of tokens", "delete it and log in again"
            ) from error

    def _write(self, content: dict[str, str]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Private from its first byte on: what is created open and closed later was open for a moment.
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(content, file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._path)
                fsync_folder(self._path.parent)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
