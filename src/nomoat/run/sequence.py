"""One generation inside the worker, from its prompt to its last token: what it has, what it needs next."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.context import Context
from nomoat.run.drafts.speculator import Speculator
from nomoat.run.kv.memory import Claim, Held
from nomoat.run.llama import Model
from nomoat.run.logprobs import token_logprob
from nomoat.run.protocol import Generate, GenerateResult, Piece, PromptProgress, TokenLogprob
from nomoat.run.sampler import Sampler
from nomoat.run.text_stream import TextStream

__all__ = ["Sequence"]

# Waking the reader for every token costs more than a token's worth of barriers on two cores; nobody reads
# faster than this.
_SECONDS_BETWEEN_PIECES = 0.05
_LONGEST_BURST = 8  # tokens


@dataclass
class _Outbox:
    """Gathers tokens into pieces and sends them: the first at once, the rest at a reader's pace.

    Nobody looks at the text before it is sent, unless a stop string may end it: so it is made for many tokens at once.
    """

    id: int
    model: Model
    stream: TextStream
    send: Callable[[Piece], None]
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    read: int = 0
    """How many of `token_ids` are in `text`."""
    due: float = 0.0

    def add(self, token_id: int) -> None:
        self.token_ids.append(token_id)
        if self.stream.may_stop:
            self._read()

    def flush_if_due(self) -> None:
        if time.monotonic() >= self.due:
            self.flush()

    def flush(self, last: bool = False) -> None:
        self._read()
        text = self.text + self.stream.finish() if last else self.text
        if text or self.token_ids:
            self.send(Piece(self.id, text, tuple(self.token_ids), tuple(self.logprobs)))
            self.text, self.token_ids, self.logprobs, self.read = "", [], [], 0
            self.due = time.monotonic() + _SECONDS_BETWEEN_PIECES

    def _read(self) -> None:
        data = b"".join(map(self.model.token_bytes, self.token_ids[self.read :]))
        self.text, self.read = self.text + self.stream.push(data), len(self.token_ids)


class Sequence:
    """Tokens that were given and made, how they are chosen, and where they go.

    `held` is what the KV memory holds of `tokens`; it is None while the sequence waits.
    """

    def __init__(
        self, model: Model, request: Generate, adapters: AdapterSet, most_tokens: int,
        send: Callable[[Piece | PromptProgress], None],
    ) -> None:  # fmt: skip
        """`most_tokens` bounds prompt and answer together."""
        self.model, self.request, self.adapters, self.most_tokens = model, request, adapters, most_tokens
        self.id, self.client = request.id, request.client
        self.tokens = list(request.tokens)
        self.held: Held | None = None
        self.arrived = time.monotonic()
        self.speculator: Speculator | None = None
        self.most_guesses = 0
        self._sampler = Sampler(model, request.sampling, request.tokens)
        self._stream = TextStream(request.sampling.stop)
        self._outbox = _Outbox(request.id, model, self._stream, send)
        sampling = request.sampling
        # A list of log-probabilities, a grammar and a stop string want to look at each token before the next one.
        self._bursts = sampling.logprobs is None and sampling.grammar is None and not self._stream.may_stop
        self._send = send
        self._end_token_id: int | None = None
        self._end_logprob: TokenLogprob | None = None
        self._begun: float | None = None
        self._prompt_end: float | None = None
        self._cached = self._restored = self._decoded = 0

    # -- what it needs -------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Tokens that must be evaluated before the next one can be chosen."""
        return len(self.tokens) - (len(self.held.tokens) if self.held else 0)

    @property
    def decodes(self) -> bool:
        """Whether only the token chosen last is to be evaluated."""
        return self.pending == 1 and self._prompt_end is not None

    @property
    def room(self) -> int:
        """Tokens that may still be made."""
        made = len(self.tokens) - len(self.request.tokens)
        limit = self.request.sampling.max_tokens
        left = self.most_tokens - len(self.tokens)
        return left if limit is None else min(left, limit - made)

    @property
    def burst(self) -> int:
        """How many tokens may be decoded in a row, 1 and more, before `take` and `draft` come in between."""
        if not self._bursts:
            return 1
        patience = self.speculator.patience if self.speculator is not None else _LONGEST_BURST
        return min(patience, _LONGEST_BURST, self.room)

    def begin(self, claim: Claim) -> None:
        """It got a sequence of the context, for the first time or again after it had to make room."""
        self.held = claim.held
        if self._begun is None:
            self._begun = time.monotonic()
            self._cached, self._restored = claim.cached, claim.restored
        self.tell_progress()

    def tell_progress(self) -> None:
        """Say how much of the prompt was read, where somebody wants to know, until its first token is chosen."""
        if not self.request.progress or self._prompt_end is not None:
            return
        assert self.held is not None and self._begun is not None
        cached, total = self._cached + self._restored, len(self.request.tokens)
        seconds = time.monotonic() - self._begun
        read = max(cached, len(self.held.tokens))  # one that had to make room begins with less
        self._send(PromptProgress(self.id, total, cached, self._restored, read, seconds))

    def next_tokens(self, most: int) -> list[int]:
        """Up to `most` of the tokens that are to be evaluated next."""
        assert self.held is not None
        start = len(self.held.tokens)
        return self.tokens[start : start + most]

    def draft(self, most: int, others: int) -> list[int]:
        """Guesses at what comes behind the pending token, to be checked with it; `others` as for `Speculator`."""
        most = min(most, self.room - 1, self.most_guesses)
        return self.speculator.draft(most, others) if self.speculator is not None and most > 0 else []

    # -- what comes back -----------------------------------------------------------------------------

    def choose(self, context: Context, logits: NDArray[np.float32], row: int) -> int:
        """The next token, from row `row` of the context's last `logits` (rows, n_vocab)."""
        if self._prompt_end is None:
            self._prompt_end = time.monotonic()
        else:
            self._decoded += 1
        return self._sampler.choose(context, logits, row)

    def ends_with(self, token_id: int) -> bool:
        """Whether this token ends the answer, and is no part of it."""
        return self.model.is_end(token_id) and not self.request.sampling.ignore_end

    def take(self, token_id: int, logits: NDArray[np.float32] | None = None) -> str | None:
        """Add the chosen token; returns why the answer ends with it, if it does.

        `logits` (n_vocab,) chose it. They are needed where their logarithms are asked for, and `burst` is 1 then.
        """
        sampling = self.request.sampling
        logprob = None
        if sampling.logprobs is not None and logits is not None:
            logprob = token_logprob(self.model, logits, token_id, sampling.logprobs)
        if self.ends_with(token_id):
            self._end_token_id, self._end_logprob = token_id, logprob
            return "stop"
        self.tokens.append(token_id)
        if logprob is not None:
            self._outbox.logprobs.append(logprob)
        self._outbox.add(token_id)
        if self._stream.stopped:
            return "stop"
        return "length" if self.room <= 0 else None

    def deliver(self) -> None:
        """Let the reader have what was taken, if it is time to."""
        self._outbox.flush_if_due()

    def finish(self, reason: str, threads: int) -> GenerateResult:
        """Send what is left of the text and sum up."""
        self._sampler.close()
        self._outbox.flush(last=True)
        end = time.monotonic()
        begun = end if self._begun is None else self._begun
        prompt_end = end if self._prompt_end is None else self._prompt_end
        prompt = len(self.request.tokens)
        return GenerateResult(
            reason, prompt, self._cached, len(self.tokens) - prompt, self._decoded, prompt_end - begun,
            end - prompt_end, self.request.sampling.seed or 0, threads, self._restored,
            self.speculator.draft_tokens if self.speculator else 0,
            self.speculator.accepted_tokens if self.speculator else 0, begun - self.arrived,
            self._stream.matched, self._end_token_id, self._end_logprob,
        )  # fmt: skip

    def close(self) -> None:
        """Free the sampler where the sequence fails."""
        self._sampler.close()
