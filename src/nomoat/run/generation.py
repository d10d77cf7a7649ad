"""An answer as it comes: iterate over chunks, cancel at any time, read the figures at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from nomoat.base.errors import NomoatError
from nomoat.run.client import Exchange
from nomoat.run.protocol import GenerateResult, Piece, PromptProgress, TokenLogprob

__all__ = ["Chunk", "Generation"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. The last one has `finish_reason` and `result`, and may be empty otherwise.

    `token_ids` are the tokens made since the chunk before; `text` can lag behind them. `logprobs` has an
    entry for each token where they were asked for. Where `progress` was asked for, chunks before the first token
    have it and nothing else.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    result: GenerateResult | None = None
    progress: PromptProgress | None = None


class Generation:
    """Iterator over the chunks of one answer. Dropping it, or leaving its `with`, cancels the rest."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.result: GenerateResult | None = None

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self.result is not None or self._exchange.finished:
            raise StopIteration
        message = self._exchange.next()
        if isinstance(message, Piece):
            return Chunk(message.text, message.token_ids, message.logprobs)
        if isinstance(message, PromptProgress):
            return Chunk("", progress=message)
        result: GenerateResult = self._exchange.value
        self.result = result
        return Chunk("", finish_reason=result.finish_reason, result=result)

    @property
    def ready(self) -> bool:
        """Whether the next chunk is there already."""
        return self._exchange.ready

    def on_arrival(self, notify: Callable[[], object]) -> None:
        """Call `notify` whenever a chunk has come, so that an event loop needs no thread that waits.

        It is called from the thread that reads the worker's answers and must return at once.
        """
        self._exchange.on_arrival(notify)

    def text(self) -> str:
        """The whole answer, from where the iteration stands."""
        return "".join(chunk.text for chunk in self)

    def cancel(self) -> None:
        """Stop the answer; the chunks made so far and the last one still come. From any thread."""
        self._exchange.cancel()

    def close(self) -> None:
        """Stop the answer and throw the rest away."""
        self._exchange.__exit__(None, None, None)

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # `for chunk in engine.generate(...): break` must not leave the worker busy with the rest.
        with contextlib.suppress(NomoatError, OSError, AttributeError):
            self._exchange.cancel()
