"""Counts downloads in memory and writes them down every few seconds: reading must not wait for a disk to write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from nomoat.base.errors import NomoatError
from nomoat.share.registry.repos import Repo, Repos

__all__ = ["Downloads"]

_SECONDS = 2.0


class Downloads:
    """To be used from the event loop; `flush` also at the end, from any thread."""

    def __init__(self, repos: Repos, on_error: Callable[[str], None]) -> None:
        self._repos, self._on_error = repos, on_error
        self._counts: Counter[int] = Counter()
        self._known: dict[int, Repo] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, repo: Repo) -> None:
        """One more."""
        self._counts[repo.id] += 1
        self._known[repo.id] = repo
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._begin_flush)

    def flush(self) -> None:
        """Write down what was counted."""
        counts, known = self._counts, self._known
        self._counts, self._known = Counter(), {}
        for repo_id, count in counts.items():
            try:
                self._repos.count_download(known[repo_id], count)
            except NomoatError as error:
                self._on_error(error.message)

    def _begin_flush(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self.flush)
