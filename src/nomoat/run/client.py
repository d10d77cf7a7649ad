"""The parent's side of the worker: starts it, sends requests with ids, hands each answer to who asked."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from nomoat.base.errors import (
    BadFileError,
    ContextOverflowError,
    EngineError,
    InputError,
    NomoatError,
    NotEnoughMemoryError,
    NotFoundError,
    OverloadedError,
)
from nomoat.base.progress import Progress
from nomoat.run.process import WorkerProcess
from nomoat.run.protocol import Cancel, Done, Failed, Load, LoadedModel, LoadProgress, Request

__all__ = ["Client", "EngineRestartError", "Exchange"]

_ERRORS: dict[str, Callable[..., NomoatError]] = {
    kind.code: kind
    for kind in (
        BadFileError, ContextOverflowError, EngineError, InputError, NotEnoughMemoryError, NotFoundError,
        OverloadedError,
    )
}  # fmt: skip
_SECONDS_WITHOUT_PROGRESS = 2.0
_RESTART = "the next request starts a new worker; if it happens again, please report it"


class EngineRestartError(EngineError):
    """The worker was ended because of another request: the same one can be sent again, to the next worker."""


class _Ended(Exception):
    """The worker is gone; its message says why. `retry` says that it was for one request's sake."""

    def __init__(self, reason: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry


class _Mailbox:
    """The answers to one request, in the order in which they came.

    Ctrl-C may strike between any two steps of who reads, so an answer stays here until it was dealt with: were the
    last one lost on its way out of a queue, the reader would wait for ever.
    """

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._notify: Callable[[], object] | None = None
        self.drop_first = self._messages.popleft

    def put(self, message: Any) -> None:
        """Add an answer, wake who waits and tell who watches."""
        self._messages.append(message)
        self._wake.put(None)
        if self._notify is not None:
            self._notify()

    def first(self) -> Any:
        """The oldest answer that was not dropped; waits for one."""
        while not self._messages:
            self._wake.get()
        return self._messages[0]

    def empty(self) -> bool:
        """Whether `first` would wait."""
        return not self._messages

    def watch(self, notify: Callable[[], object]) -> None:
        """Call `notify` whenever there is something to get, from the thread that brings it."""
        self._notify = notify
        if not self.empty():
            notify()


class _Link:
    """One worker process and the answers that are awaited from it."""

    def __init__(self) -> None:
        self.process = WorkerProcess()
        self._answers: dict[int, _Mailbox] = {}
        self._lock = threading.Lock()
        self._ended: _Ended | None = None
        self._closing = False
        self._reader = threading.Thread(target=self._read, name="engine-reader", daemon=True)
        self._reader.start()

    def usable(self) -> bool:
        """Whether the worker can take a request."""
        return self._ended is None and not self._closing and self.process.runs()

    def open(self, request: Request) -> _Mailbox:
        """Send a request; returns where its answers arrive."""
        answers = _Mailbox()
        with self._lock:
            if self._ended is not None:
                answers.put(self._ended)
                return answers
            self._answers[request.id] = answers
        self.send(request)
        return answers

    def send(self, message: Request | Cancel) -> None:
        """Send a message; a worker that is gone is reported by the reader, to everyone."""
        with contextlib.suppress(OSError):
            self.process.channel.send(message)

    def close(self) -> None:
        """End the worker; whoever still waits for an answer learns it."""
        self._closing = True
        self.process.end()
        self._reader.join()
        self.process.release()

    def _read(self) -> None:
        while True:
            try:
                message = self.process.channel.receive()
            except (EOFError, OSError):
                break
            with self._lock:
                finished = isinstance(message, (Done, Failed))
                answers = self._answers.pop(message.id, None) if finished else self._answers.get(message.id)
            if answers is not None:
                answers.put(message)
        if self._closing:
            ended = _Ended("the engine was closed")
        else:
            ended = _Ended(self.process.reason(), self.process.invites_retry())
        with self._lock:
            self._ended = ended
            for answers in self._answers.values():
                answers.put(ended)
            self._answers.clear()


class Exchange:
    """One request and its answers. Iterating yields them up to, not including, `Done`, whose value is kept.

    Leaving its `with` block early cancels the request. Raises what the worker answers, and `EngineError`
    where the worker dies.
    """

    def __init__(self, link: _Link, request: Request) -> None:
        self._link, self._request = link, request
        self._answers = link.open(request)
        self.finished = False
        self.value: Any = None

    def __iter__(self) -> Iterator[Any]:
        while (message := self.next()) is not None:
            yield message

    def next(self) -> Any:
        """The next answer; None once `Done` has come."""
        if self.finished:
            return None
        message = self._answers.first()
        if not isinstance(message, (Done, Failed, _Ended)):
            self._answers.drop_first()
            return message
        if isinstance(message, Done):
            self.value = message.value
        self.finished = True
        if isinstance(message, _Ended):
            kind = EngineRestartError if message.retry else EngineError
            raise kind(f"the inference worker ended while it answered ({message})", _RESTART)
        if isinstance(message, Failed):
            raise _ERRORS.get(message.code, EngineError)(*message.arguments)
        return None

    @property
    def ready(self) -> bool:
        """Whether `next` would return at once."""
        return self.finished or not self._answers.empty()

    def on_arrival(self, notify: Callable[[], object]) -> None:
        """Call `notify` whenever an answer has come, from the thread that reads them; it must be quick."""
        self._answers.watch(notify)

    def cancel(self) -> None:
        """Ask the worker to stop; what it has made so far still arrives."""
        if not self.finished:
            self._link.send(Cancel(self._request.id))

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.finished:
            self.cancel()
            with contextlib.suppress(NomoatError):
                for _ in self:
                    pass


class Client:
    """Keeps a worker with the model loaded: starts it when needed, again after it died."""

    def __init__(self, load: Load, check: Callable[[], object], progress: Progress) -> None:
        """`check` runs before each load and may refuse it."""
        self._load, self._check, self._progress = load, check, progress
        self._ids = itertools.count(1)
        self._starting = threading.Lock()
        self._link: _Link | None = None
        self._newest: _Link | None = None  # also while it loads
        self._loaded: LoadedModel | None = None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self._link.process.pid if self._link is not None and self._link.usable() else None

    def loaded(self) -> LoadedModel:
        """What the worker says of the model; starts the worker if need be."""
        self._ready()
        assert self._loaded is not None
        return self._loaded

    def begin(self, request: Request) -> Exchange:
        """Send a request (its id is set here)."""
        return Exchange(self._ready(), replace(request, id=next(self._ids)))

    def ask(self, request: Request) -> Any:
        """Send a request and wait for its value."""
        return self.collect(request)[1]

    def collect(self, request: Request) -> tuple[list[Any], Any]:
        """Send a request and wait: all answers and the value. A worker that another request ended is replaced, once."""
        try:
            return self._collect(request)
        except EngineRestartError:
            return self._collect(request)

    def _collect(self, request: Request) -> tuple[list[Any], Any]:
        with self.begin(request) as exchange:
            answers = list(exchange)
        return answers, exchange.value

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._starting:
            if self._link is not None:
                self._link.close()
                self._link = None

    def kill(self) -> None:
        """End the worker at once, also one that loads; whoever waits for it gets an `EngineError`. From any thread."""
        if (link := self._newest) is not None:
            link.process.kill()

    def _ready(self) -> _Link:
        with self._starting:
            if self._link is not None and self._link.usable():
                return self._link
            if self._link is not None:
                self._link.close()
                self._link = None
            self._check()
            link = self._newest = _Link()
            try:
                self._loaded = self._wait_for_load(link)
            except BaseException:  # Ctrl-C while loading must not leave a worker behind
                link.close()
                raise
            self._link = link
            return link

    def _wait_for_load(self, link: _Link) -> LoadedModel:
        start, shown = time.monotonic(), 0.0
        exchange = Exchange(link, replace(self._load, id=next(self._ids)))
        started = False
        for message in exchange:
            if not isinstance(message, LoadProgress):
                continue
            if not started and time.monotonic() - start > _SECONDS_WITHOUT_PROGRESS:
                started = True
                self._progress.start("loading the model", 100, "%")
            if started:
                self._progress.advance(100 * message.share - shown)
                shown = 100 * message.share
        if started:
            self._progress.finish()
        loaded: LoadedModel = exchange.value
        return loaded
