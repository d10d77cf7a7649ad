"""Clients of a server: threads in one process of its own, so that measuring disturbs no side more than the other."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from decode_yardstick import wait_for_quiet
from servers import Server

from nomoat.run.machine_load import OtherLoad

__all__ = ["Answer", "Clients", "chat", "throughput", "worst_ttft_seconds"]

Body = dict[str, Any]
_PATIENCE_SECONDS = 300.0
_QUIET_CORES = 0.15


@dataclass(frozen=True)
class Answer:
    """One streamed answer as its client saw it; times are `time.monotonic` seconds.

    `last` is when the answer was said to be complete; `tokens` are all that were chosen until then, the one that means
    "the end" among them. `timings` are the server's own words. `other_cores` is what programs that have nothing to do
    with the measurement used meanwhile.
    """

    sent: float
    first: float
    last: float
    prompt_tokens: int
    tokens: int
    text: str
    timings: dict[str, Any] = field(default_factory=dict)
    other_cores: float = 0.0

    @property
    def ttft_seconds(self) -> float:
        """From sending the request to the first piece of text."""
        return self.first - self.sent

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first by the time since then: every server sends its first one at once."""
        return (self.tokens - 1) / max(self.last - self.first, 1e-9)


def chat(text: str, max_tokens: int, **more: Any) -> Body:
    """A greedy chat request with one message."""
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **more}


def throughput(answers: Sequence[Answer]) -> float:
    """Tokens of all clients together per second, prompts included in the time."""
    elapsed = max(answer.last for answer in answers) - min(answer.sent for answer in answers)
    return sum(answer.tokens for answer in answers) / elapsed


def worst_ttft_seconds(answers: Sequence[Answer]) -> float:
    """The longest wait for a first piece."""
    return max(answer.ttft_seconds for answer in answers)


class Clients(AbstractContextManager["Clients"]):
    """The process that holds the clients; it stays, so that starting it is never measured."""

    def __init__(self, patience_seconds: float = 20.0) -> None:
        self._patience_seconds = patience_seconds
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def run(self, server: Server, *clients: Sequence[Body]) -> list[Answer]:
        """Let each client send its requests one after the other, all clients at once; all answers, client by client.

        Waits until other programs are quiet, but not longer than the clients have patience.
        """
        if self._patience_seconds:
            wait_for_quiet(_QUIET_CORES, self._patience_seconds)
        load = OtherLoad()
        answers = self._pool.submit(_run, server, clients).result()
        cores = load.cores()
        return [replace(answer, other_cores=cores) for answer in answers]

    def one(self, server: Server, body: Body) -> Answer:
        """One client, one request."""
        return self.run(server, [body])[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def _run(server: Server, clients: Sequence[Sequence[Body]]) -> list[Answer]:
    with ThreadPoolExecutor(len(clients)) as pool:
        return [
            answer
            for answers in pool.map(lambda bodies: _client(server, bodies), clients)
            for answer in answers
        ]


def _client(server: Server, bodies: Sequence[Body]) -> list[Answer]:
    return [_ask(server, {"model": server.model, **body}) for body in bodies]


def _ask(server: Server, body: Body) -> Answer:
    """One request on a connection of its own: not every server keeps one open after a stream."""
    content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=_PATIENCE_SECONDS)
    sent = time.monotonic()
    try:
        connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{server.name}: {response.status}: {response.read(2000)!r}")
        return _read(response, sent, server.counts_end)
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, sent: float, counts_end: bool) -> Answer:
    """Read a stream of server-sent events to its end."""
    pieces: list[str] = []
    usage, timings = {}, {}
    first = last = 0.0
    reason = ""
    while line := response.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(str(event["error"]))
        choices = event.get("choices", [])
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        if text:
            first = first or time.monotonic()
            pieces.append(text)
        if choices and choices[0].get("finish_reason"):
            last, reason = time.monotonic(), choices[0]["finish_reason"]
        usage = event.get("usage") or usage
        timings = event.get("timings") or timings
    last = last or time.monotonic()
    # Without the end token one side would be paid for a decode that the other one does for nothing.
    tokens = usage["completion_tokens"] + (reason == "stop" and not counts_end)
    return Answer(sent, first or last, last, usage["prompt_tokens"], tokens, "".join(pieces), timings)
