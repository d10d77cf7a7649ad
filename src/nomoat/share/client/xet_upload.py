"""Sending large files through Xet, where a hub offers it: only chunks that it does not have yet travel.

The protocol is that of the `hf-xet` library, which does the chunking and the sending.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from nomoat.base.errors import NomoatError
from nomoat.base.settings import silence_xet
from nomoat.share.client.connection import Connection
from nomoat.share.client.large_files import Sent
from nomoat.share.client.outgoing import LocalFile
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.remote import api_path
from nomoat.share.names import RepoName

__all__ = ["offers_xet", "send_by_xet"]


def offers_xet(connection: Connection, repo: RepoName, branch: str) -> bool:
    """Whether the hub takes large files by Xet for this repository."""
    try:
        content, headers = connection.get(_token_path(repo, branch))
    except NomoatError as error:
        if isinstance(error, UnreachableError):
            raise
        return False
    return bool(headers.get("X-Xet-Cas-Url") or (isinstance(content, dict) and content.get("casUrl")))


def send_by_xet(
    connection: Connection, repo: RepoName, branch: str, files: Sequence[LocalFile], sent: Sent
) -> int:
    """Send `files`; returns how many bytes really travelled. Raises `UnreachableError`."""
    silence_xet()
    import hf_xet  # type: ignore[import-untyped]

    session = hf_xet.XetSession()
    done = 0

    def report(group: object, items: object) -> None:
        nonlocal done
        now = int(getattr(group, "total_bytes_completed", 0))
        sent.add(now - done)
        done = now

    try:
        commit = session.new_upload_commit(
            token_refresh_url=connection.url(_token_path(repo, branch)),
            token_refresh_headers=connection.authorization, progress_callback=report,
        )  # fmt: skip
        for file in files:
            oid = file.digest.removeprefix("sha256:")
            if isinstance(file.source, Path):
                commit.start_upload_file(str(file.source), sha256=oid)
            else:
                commit.start_upload_bytes(file.source, sha256=oid)
        return int(commit.wait_to_finish().dedup_metrics.total_bytes_uploaded)
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            session.sigint_abort()
        raise
    except (RuntimeError, OSError, ValueError) as error:
        raise UnreachableError(f"{connection.hub.host}: the upload broke off: {str(error)[:300]}",
                               "run it again: what arrived is not sent twice") from error  # fmt: skip


def _token_path(repo: RepoName, branch: str) -> str:
    return f"{api_path(repo)}/xet-write-token/{quote(branch, safe='')}"
