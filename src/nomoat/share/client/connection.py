"""HTTP to one hub: retries, redirects that never carry a token elsewhere, errors with their remedy."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from nomoat import __version__
from nomoat.base.errors import NomoatError
from nomoat.share.checks.ssrf import guarded_transport
from nomoat.share.client.failures import words_of
from nomoat.share.client.references import HubAddress, is_local_host
from nomoat.share.client.refusals import UnreachableError, refusal_of
from nomoat.share.client.wide_reads import WideTransport

__all__ = ["Connection"]

T = TypeVar("T")

_TRIES = 6
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 60.0
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 8
_MOST_ANSWER_BYTES = 64 << 20
_TIMEOUT = httpx.Timeout(connect=10, read=30, write=60, pool=None)


class Connection:
    """Speaks to one hub. Safe to use from several threads."""

    def __init__(
        self, hub: HubAddress, token: str | None = None, sleep: Callable[[float], None] = time.sleep,
        *, only_public: bool = False,
    ) -> None:  # fmt: skip
        """`sleep` is what waits between tries.

        With `only_public` no request, nor one that a redirect leads to, goes to an address of this machine or of a
        private network: `RefusedError`.
        """
        self.hub = hub
        self._token = token
        self._sleep = sleep
        # A proxy of the environment is for the world outside; it cannot know what is on this network.
        self.is_local = is_local_host(urlsplit(hub.endpoint).hostname or "")
        outside = not self.is_local
        transport = guarded_transport() if only_public else None if outside else WideTransport()
        self._client = httpx.Client(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=outside and not only_public, transport=transport,
            headers={"User-Agent": f"nomoat/{__version__}", "Accept-Encoding": "identity"},
        )  # fmt: skip

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def has_token(self) -> bool:
        """Whether requests say who asks."""
        return self._token is not None

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who asks; empty without a token."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def url(self, path: str) -> str:
        """The address of a path at the hub; one that is an address already stays."""
        return path if "://" in path else f"{self.hub.endpoint}{path}"

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> tuple[Any, httpx.Headers]:
        """JSON and headers of a GET. Raises `NomoatError` as `refusal_of` says, `UnreachableError`."""
        return self._json("GET", path, params=params, tries=_TRIES)

    def post(
        self, path: str, content: Any = None, *, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, repeatable: bool = True,
    ) -> tuple[Any, httpx.Headers]:  # fmt: skip
        """JSON and headers of a POST of `content` as JSON, or of `body`.

        What may not happen twice (`repeatable` False) is sent once.
        """
        kind = {} if body is not None else {"Content-Type": "application/json"}
        sent = body if body is not None else json.dumps(content).encode()
        return self._json("POST", path, content=sent, headers={**kind, **(headers or {})},
                          tries=_TRIES if repeatable else 1)  # fmt: skip

    def send_json(self, method: str, path: str, content: Any) -> tuple[Any, httpx.Headers]:
        """JSON and headers of a request with a JSON body that may be repeated."""
        body, headers = json.dumps(content).encode(), {"Content-Type": "application/json"}
        return self._json(method, path, content=body, headers=headers, tries=_TRIES)

    def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        more_seconds: float = 0,
    ) -> httpx.Headers:
        """Send a body in pieces; `chunks` begins it anew for each try. Returns the answer's headers.

        `more_seconds` are for what the hub has to do besides taking the body.
        """
        timeout = _with_more(more_seconds)

        def once() -> httpx.Headers:
            with self.stream("PUT", url, headers=headers, content=chunks(), timeout=timeout) as answer:
                _read(answer)
                return answer.headers

        return self.retried(once)

    @contextlib.contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """One request, redirects followed, its answer not yet read. Raises for a status of 400 and above."""
        url, headers = self.url(path), dict(options.pop("headers", None) or {})
        for _ in range(_MOST_REDIRECTS):
            with self._once(method, url, headers, options) as answer:
                if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
                    if answer.status_code >= 400:
                        raise refusal_of(answer.status_code, answer.headers, _read(answer), self.hub)
                    yield answer
                    return
                url = self._next(url, answer.headers["Location"])
                options.pop("params", None)
        raise NomoatError(
            f"{self.hub.host}: more than {_MOST_REDIRECTS} redirects", "ask whoever runs that hub"
        )

    def retried(self, work: Callable[[], T]) -> T:
        """The result of `work`, tried again with growing pauses while the hub is busy or out of reach."""
        return self._retried(work, _TRIES)

    def _json(self, method: str, path: str, *, tries: int, **options: Any) -> tuple[Any, httpx.Headers]:
        def once() -> tuple[Any, httpx.Headers]:
            with self.stream(method, path, **options) as answer:
                return _parsed(_read(answer), self.hub), answer.headers

        return self._retried(once, tries)

    def _retried(self, work: Callable[[], T], tries: int) -> T:
        for attempt in range(1, tries + 1):
            try:
                return work()
            except NomoatError as error:
                status = getattr(error, "status", None)
                if attempt == tries or not (status in _RETRIED or isinstance(error, UnreachableError)):
                    raise
                self._sleep(_pause(attempt, getattr(error, "retry_after_seconds", 0.0)))
        raise AssertionError("a loop without a result")

    @contextlib.contextmanager
    def _once(
        self, method: str, url: str, headers: dict[str, str], options: dict[str, Any]
    ) -> Iterator[httpx.Response]:
        # A token is for the hub alone: neither for where a redirect leads, nor for another port of the same host.
        own = self.authorization if _origin(url) == _origin(self.hub.endpoint) else {}
        try:
            with self._client.stream(method, url, headers={**headers, **own}, **options) as answer:
                yield answer
        except (httpx.TransportError, httpx.StreamError) as error:
            raise UnreachableError(*words_of(error, httpx.URL(url))) from error

    def _next(self, url: str, location: str) -> str:
        target = httpx.URL(url).join(location)
        downgraded = url.startswith("https:") and target.scheme != "https"
        if target.scheme not in {"http", "https"} or downgraded:
            raise NomoatError(f"{self.hub.host} redirects to {str(target)[:200]}, which is not encrypted",
                              "ask whoever runs that hub")  # fmt: skip
        return str(target)


def _with_more(seconds: float) -> httpx.Timeout:
    read, write = (_TIMEOUT.read or 0) + seconds, (_TIMEOUT.write or 0) + seconds
    return httpx.Timeout(connect=_TIMEOUT.connect, read=read, write=write, pool=_TIMEOUT.pool)


def _origin(url: str) -> tuple[str, str, int]:
    parts = httpx.URL(url)
    return parts.scheme, parts.host, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _read(answer: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in answer.iter_raw():
        content += chunk
        if len(content) > _MOST_ANSWER_BYTES:
            raise NomoatError(f"{answer.url.host}: the answer has no end", "ask whoever runs that hub")
    return bytes(content)


def _parsed(content: bytes, hub: HubAddress) -> Any:
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise NomoatError(f"{hub.host}: the answer is not JSON, so this is no hub that nomoat knows",
                          "check the host and the port") from error  # fmt: skip


def _pause(attempt: int, asked_seconds: float) -> float:
    grown = float(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    # Many clients that failed together must not come back together.
    return min(_LONGEST_WAIT_SECONDS, max(asked_seconds, grown * random.uniform(0.75, 1.25)))
