"""Files that did not come by Xet get chunks when a client of Xet looks for some: in the background, once."""

from __future__ import annotations

import asyncio
import logging

from anyio import CapacityLimiter, to_thread

from nomoat.share.xet.intake import Intake

__all__ = ["Indexing"]

_PATIENCE_SECONDS = 3.0  # longer, to send the bytes may be quicker than to wait


class Indexing:
    """Work under way, by repository. Used by the event loop alone."""

    def __init__(self, intake: Intake, log: logging.Logger) -> None:
        self._intake, self._log = intake, log
        self._one = CapacityLimiter(1)  # it keeps a core busy
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def of(self, repo_id: int) -> None:
        """See to it that the chunks of a repository's files are known, soon if not at once."""
        task = self._tasks.get(repo_id)
        if task is None:
            task = self._tasks[repo_id] = asyncio.create_task(self._index(repo_id))
        await asyncio.wait({task}, timeout=_PATIENCE_SECONDS)

    async def _index(self, repo_id: int) -> None:
        try:
            await to_thread.run_sync(self._intake.index_files, repo_id, limiter=self._one)
        except Exception:
            self._log.exception("the chunks of repository %s could not be found", repo_id)
        finally:
            del self._tasks[repo_id]
