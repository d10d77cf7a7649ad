"""The worker process: holds llama.cpp and one model, so that a fault there ends no more than the requests it has.

`python -m nomoat.run.worker FD` speaks `protocol` over the inherited socket FD. One thread reads messages and
answers what only needs the vocabulary, at once. The main thread does everything else: it takes in what has
arrived, advances one job by a portion, and lets the scheduler do one evaluation, again and again. The process
ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nomoat.base.errors import EngineError, NomoatError
from nomoat.run.channel import Channel
from nomoat.run.inbox import CLOSING_SECONDS, Inbox
from nomoat.run.llama import Aborted, AbortFlag
from nomoat.run.protocol import (
    Detokenize,
    Done,
    Embed,
    Failed,
    Generate,
    Load,
    LoadProgress,
    Request,
    Score,
    Stats,
    Tokenize,
    Unload,
    failure,
)
from nomoat.run.score import embed_job, score_job
from nomoat.run.session import Session

__all__ = ["Worker", "main"]

_PR_SET_PDEATHSIG = 1
_PROGRESS_STEP = 0.02


@dataclass
class _Job:
    """A request that is worked off portion by portion."""

    id: int
    portions: Iterator[None]


class Worker:
    """Answers requests with the session's help."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._abort = AbortFlag()
        self._inbox = Inbox(channel, self._abort, self._answer_at_once)
        self._session: Session | None = None
        self._jobs: deque[_Job] = deque()
        self._handlers: dict[type, Callable[[Any], Any]] = {
            Load: self._load, Tokenize: self._tokenize, Detokenize: self._detokenize, Unload: self._unload,
            Stats: self._stats,
        }  # fmt: skip

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: the inbox has noticed, or will at once
            self._channel.send(message)

    def serve(self) -> None:
        """Answer requests until the parent is gone."""
        self._inbox.start()
        while not self._inbox.closed:
            idle = not self._jobs and not self._scheduler_busy() and not self._tidy_up()
            requests, cancelled = self._inbox.take(wait=idle)
            for request in requests:
                self._accept(request)
            if cancelled:
                self._cancel(cancelled)
            if self._jobs:
                self._advance()
            if self._scheduler_busy():
                scheduler = self._loaded().scheduler
                with self._inbox.evaluating(scheduler.next_ids()):
                    scheduler.step(self._interrupted)
        if self._session is not None:
            self._session.close(CLOSING_SECONDS - 0.5)
        os._exit(0)  # nothing that llama.cpp does at exit is worth waiting for

    def _accept(self, request: Request) -> None:
        try:
            if isinstance(request, Generate):
                self._loaded().scheduler.submit(request)
            elif isinstance(request, Score):
                self._jobs.append(_Job(request.id, score_job(self._loaded(), request, self._send)))
            elif isinstance(request, Embed):
                self._jobs.append(_Job(request.id, embed_job(self._loaded(), request, self._send)))
            else:
                self._send(self._answer(request))
        except Exception as error:
            self._send(failure(request.id, error))

    def _advance(self) -> None:
        """One portion of the first job. One at a time: together they could fill the memory and none would end."""
        job = self._jobs[0]
        try:
            with self._inbox.evaluating({job.id}):
                next(job.portions)
            return
        except StopIteration:
            answer: Done | Failed = Done(job.id)
        except Aborted:
            answer = _cancelled(job.id)
        except Exception as error:
            answer = failure(job.id, error)
        self._jobs.popleft()
        self._send(answer)

    def _cancel(self, ids: set[int]) -> None:
        for job in [job for job in self._jobs if job.id in ids]:
            self._jobs.remove(job)
            job.portions.close()  # type: ignore[attr-defined]
            self._send(_cancelled(job.id))
        if self._session is not None:
            self._session.scheduler.cancel(ids)

    def _tidy_up(self) -> bool:
        """Use a quiet moment; False where nothing is left to do."""
        try:
            return self._session is not None and self._session.tidy_up()
        except (Aborted, NomoatError, MemoryError, OSError):
            return False  # it was only to save time later

    def _interrupted(self) -> bool:
        return bool(self._jobs) or self._inbox.has_news

    def _scheduler_busy(self) -> bool:
        return self._session is not None and self._session.scheduler.busy

    def _answer_at_once(self, request: Request) -> bool:
        """Tokenizing is safe beside an evaluation, and the next prompt must not wait for this answer."""
        quick = isinstance(request, (Tokenize, Detokenize)) and self._session is not None
        if quick:
            self._send(self._answer(request))
        return quick

    def _answer(self, request: Request) -> Done | Failed:
        try:
            return Done(request.id, self._handlers[type(request)](request))
        except Exception as error:
            return failure(request.id, error)

    def _load(self, request: Load) -> object:
        last = 0.0

        def report(share: float) -> None:
            nonlocal last
            if share - last >= _PROGRESS_STEP:
                last = share
                self._send(LoadProgress(request.id, share))

        self._session = Session(request, self._abort, self._send, report)
        return self._session.describe()

    def _tokenize(self, request: Tokenize) -> list[int]:
        return self._loaded().model.tokenize(request.text, request.add_special, request.parse_special)

    def _detokenize(self, request: Detokenize) -> list[bytes]:
        model = self._loaded().model
        model.check_tokens(request.tokens)
        return [model.token_bytes(token_id, special=True) for token_id in request.tokens]

    def _unload(self, request: Unload) -> tuple[str, ...]:
        session = self._loaded()
        return session.pool.unload(request.keep, session.scheduler.adapter_sets)

    def _stats(self, request: Stats) -> dict[str, float]:
        return self._loaded().stats()

    def _loaded(self) -> Session:
        if self._session is None:
            raise EngineError("no model is loaded", "send Load first")
        return self._session


def _cancelled(request_id: int) -> Failed:
    return Failed(request_id, EngineError.code, ("the request was cancelled", ""))


def _end_with_parent() -> None:
    """Let the kernel say when the parent dies: the socket alone is no proof, a fork may hold its other end.

    Linux sends the signal already when the *thread* that started us ends, so the handler looks whether the
    parent is really gone.
    """
    parent = os.getppid()

    def leave_if_orphaned(number: int, frame: object) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGHUP, leave_if_orphaned)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)


def main() -> None:
    """Serve the socket whose number is the first argument."""
    faulthandler.enable()  # a crash says where, on standard error, which the parent keeps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it sends Cancel
    _end_with_parent()
    Worker(Channel(int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
