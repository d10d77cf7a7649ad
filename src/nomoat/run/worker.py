"""The worker process: holds llama.cpp and one model, so that a fault there ends no more than one request.

`python -m nomoat.run.worker FD` speaks `protocol` over the inherited socket FD. One thread reads messages,
reacts to `Cancel` and answers what only needs the vocabulary, at once; the main thread does the rest in
order. The process ends with its parent.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from nomoat.base.errors import BadFileError, EngineError, NomoatError, NotEnoughMemoryError
from nomoat.run.channel import Channel
from nomoat.run.generate import run_generation
from nomoat.run.llama import Aborted, AbortFlag
from nomoat.run.protocol import (
    Cancel,
    Detokenize,
    Done,
    Embed,
    Failed,
    Generate,
    Load,
    LoadProgress,
    Request,
    Score,
    Tokenize,
    Unload,
)
from nomoat.run.score import run_embed, run_score
from nomoat.run.session import Session

__all__ = ["Worker", "main"]

_PR_SET_PDEATHSIG = 1
_PROGRESS_STEP = 0.02


class _Inbox:
    """Requests in order, and which of them are cancelled."""

    def __init__(self, channel: Channel, abort: AbortFlag, answer_at_once: Callable[[Request], bool]) -> None:
        self._channel, self._abort, self._answer_at_once = channel, abort, answer_at_once
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: int | None = None
        self._waiting: set[int] = set()
        self._cancelled: set[int] = set()

    def read_forever(self) -> None:
        """Receive messages until the parent is gone, then end the process, whatever it does."""
        while True:
            try:
                message = self._channel.receive()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, Cancel):
                self._cancel(message.id)
            elif not self._answer_at_once(message):
                with self._lock:
                    self._waiting.add(message.id)
                self._requests.put(message)

    def next(self) -> Request:
        """Wait for the next request; an abort of it takes effect from here on."""
        request = self._requests.get()
        with self._lock:
            self._running = request.id
            self._waiting.discard(request.id)
            self._abort.clear()
            if request.id in self._cancelled:
                self._cancelled.discard(request.id)
                self._abort.set()
        return request

    def finished(self) -> None:
        """The running request is answered: a late cancel of it means nothing."""
        with self._lock:
            self._running = None
            self._abort.clear()

    def _cancel(self, request_id: int) -> None:
        with self._lock:
            if request_id == self._running:
                self._abort.set()
            elif request_id in self._waiting:
                self._cancelled.add(request_id)


class Worker:
    """Answers requests with the session's help."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._abort = AbortFlag()
        self._inbox = _Inbox(channel, self._abort, self._answer_at_once)
        self._session: Session | None = None
        self._handlers: dict[type, Callable[[Any], Any]] = {
            Load: self._load, Generate: self._generate, Score: self._score, Embed: self._embed,
            Tokenize: self._tokenize, Detokenize: self._detokenize, Unload: self._unload,
        }  # fmt: skip

    def serve(self) -> None:
        """Answer requests until the parent is gone."""
        threading.Thread(target=self._inbox.read_forever, name="inbox", daemon=True).start()
        while True:
            request = self._inbox.next()
            self._channel.send(self._answer(request))
            self._inbox.finished()

    def _answer_at_once(self, request: Request) -> bool:
        """Tokenizing is safe beside an evaluation, and the next prompt must not wait for this answer."""
        quick = isinstance(request, (Tokenize, Detokenize)) and self._session is not None
        if quick:
            self._channel.send(self._answer(request))
        return quick

    def _answer(self, request: Request) -> Done | Failed:
        try:
            return Done(request.id, self._handlers[type(request)](request))
        except BadFileError as error:
            return Failed(request.id, error.code, (str(error.path), error.place, error.problem, error.hint))
        except NomoatError as error:
            return Failed(request.id, error.code, (error.message, error.hint))
        except Aborted:
            return Failed(request.id, EngineError.code, ("the request was cancelled", ""))
        except MemoryError:
            error_code = NotEnoughMemoryError.code
            return Failed(request.id, error_code, ("memory ran out", "close other programs"))
        except OSError as error:
            return Failed(request.id, EngineError.code, (f"{error.filename}: {error.strerror}", ""))

    def _load(self, request: Load) -> object:
        last = 0.0

        def report(share: float) -> None:
            nonlocal last
            if share - last >= _PROGRESS_STEP:
                last = share
                self._channel.send(LoadProgress(request.id, share))

        self._session = Session(request, self._abort, report)
        return self._session.describe()

    def _generate(self, request: Generate) -> object:
        return run_generation(self._loaded(), request, self._channel.send)

    def _score(self, request: Score) -> None:
        run_score(self._loaded(), request, self._channel.send)

    def _embed(self, request: Embed) -> None:
        run_embed(self._loaded(), request, self._channel.send)

    def _tokenize(self, request: Tokenize) -> list[int]:
        return self._loaded().model.tokenize(request.text, request.add_special, request.parse_special)

    def _detokenize(self, request: Detokenize) -> bytes:
        model = self._loaded().model
        model.check_tokens(request.tokens)
        return b"".join(model.token_bytes(token_id, special=True) for token_id in request.tokens)

    def _unload(self, request: Unload) -> tuple[str, ...]:
        return self._loaded().unload_adapters(request.keep)

    def _loaded(self) -> Session:
        if self._session is None:
            raise EngineError("no model is loaded", "send Load first")
        return self._session


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
