"""What the engine and its worker process say to each other: small messages, each with a request's id.

A request is answered by any number of `Piece`, `PromptProgress`, `Rows` or `LoadProgress`, then by exactly one
`Done` or `Failed` with its id. Messages travel pickled over a socket pair that nobody else can open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nomoat.base.errors import BadFileError, EngineError, NomoatError, NotEnoughMemoryError
from nomoat.run.sampling import SamplingParams

__all__ = [
    "Cancel",
    "Detokenize",
    "Done",
    "Embed",
    "Failed",
    "FillInTokens",
    "Generate",
    "GenerateResult",
    "Load",
    "LoadProgress",
    "LoadedModel",
    "Piece",
    "PromptProgress",
    "Request",
    "Rows",
    "Score",
    "Stats",
    "TokenLogprob",
    "Tokenize",
    "Unload",
    "failure",
]

AdapterFiles = tuple[tuple[str, float], ...]
"""`(path of a GGUF adapter, scale)` in the order of the request."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load the model. The first request to a worker, and only once. Done carries a `LoadedModel`."""

    id: int
    model_path: str
    context_length: int
    threads: int | None
    cache_folder: str
    parallel: int = 1
    """Sequences that are answered at once."""
    cells: int = 0
    """KV cells that all sequences share; 0 means `context_length`."""
    queue: int = 256
    """Requests that may wait; more are refused."""
    model_digest: str = ""
    """Names the file's content, so that what is kept on disk belongs to it."""
    steady_tokens: int | None = None
    """How many tokens the model's types evaluate alike to the bit, as far as is known without measuring."""
    kv_folder: str = ""
    """Where states of prompts are kept for later; empty for nowhere."""
    history_folder: str = ""
    """Where tokens of conversations are kept as a source of guesses; empty for nowhere."""
    kv_bytes: int | None = None
    """How much may be kept there; None leaves it to the disk's free room."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue `tokens`. Answered by `Piece`s; Done carries a `GenerateResult`."""

    id: int
    tokens: list[int]
    sampling: SamplingParams
    adapters: AdapterFiles = ()
    reuse: bool = True
    client: str = ""
    """Whose turn it is: clients are served in turn."""
    speculate: bool = True
    """Whether tokens may be guessed ahead and checked together."""
    progress: bool = False
    """Whether `PromptProgress` comes before the first piece."""


@dataclass(frozen=True, slots=True)
class Score:
    """Evaluate `tokens` from scratch; answered by `Rows`.

    `want` is "logits", "logprobs", or "top": then values are `TokenLogprob`s with the `top` likeliest of each.
    """

    id: int
    tokens: list[int]
    want: str
    adapters: AdapterFiles = ()
    top: int = 0


@dataclass(frozen=True, slots=True)
class Embed:
    """One vector for each list of tokens; answered by `Rows`."""

    id: int
    inputs: list[list[int]]


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Done carries the token ids of `text`."""

    id: int
    text: str
    add_special: bool
    parse_special: bool


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Done carries the bytes of each of `tokens`."""

    id: int
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Unload:
    """Free every adapter that is not in `keep`. Done carries the paths that stay loaded."""

    id: int
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """Done carries counters, `dict[str, float]`."""

    id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop request `id`, running or waiting; it answers with what it has. No answer of its own."""

    id: int


Request = Load | Generate | Score | Embed | Tokenize | Detokenize | Unload | Stats


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a token under the unmodified softmax, and of the likeliest ones there."""

    token_id: int
    token_bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Share of the model that is loaded, 0 to 1."""

    id: int
    share: float


class Piece(NamedTuple):
    """Tokens made since the last piece, and the text that may be shown (which can lag behind them).

    A tuple, because it is sent while a reader waits for the next token and tuples are pickled fastest.
    """

    id: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How much of a prompt was read, `seconds` after its turn had come: when it begins, and after each portion of it.

    `read` of its `total` tokens are in the KV cache; `cached` of them were there before, and `restored` of these came
    from the disk.
    """

    id: int
    total: int
    cached: int
    restored: int
    read: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows `start` and on of an array answer; `values` is a float32 numpy array or a list."""

    id: int
    start: int
    values: Any


@dataclass(frozen=True, slots=True)
class FillInTokens:
    """The marks of a model that fills in the middle. A `repository`'s name and a `file`'s are not known to all."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None = None
    file: int | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the worker says of the model that it has loaded."""

    context_length: int
    n_vocab: int
    n_embd: int
    bos_token_id: int | None
    eos_token_id: int | None
    eot_token_id: int | None
    adds_bos: bool
    threads: int
    most_embed_tokens: int
    """The longest text that becomes a vector."""
    decode_seconds: dict[int, float] = field(default_factory=dict)
    fill_in: FillInTokens | None = None
    """Its marks for filling in the middle, None where it was not trained for that."""


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """How a generation ended. `finish_reason` is "stop", "length" or "cancelled".

    `cached_tokens` of the prompt were in the KV cache already. `decoded_tokens` were evaluated one by one in
    `decode_seconds` (the first token of an answer comes out of the prompt's evaluation). `stop` is the stop string
    that ended the answer, empty where the model ended it itself: by the token `end_token_id`, which counts in no
    figure here.
    """

    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    decoded_tokens: int
    prompt_seconds: float
    decode_seconds: float
    seed: int
    threads: int
    restored_tokens: int = 0
    """Tokens of the prompt that came from the cache on disk; they are not among `cached_tokens`."""
    draft_tokens: int = 0
    accepted_tokens: int = 0
    """Of `draft_tokens` guessed ahead, how many were right."""
    queue_seconds: float = 0.0
    stop: str = ""
    end_token_id: int | None = None
    end_logprob: TokenLogprob | None = None
    """That of the end token, where log-probabilities were asked for."""

    @property
    def prompt_tokens_per_second(self) -> float:
        """Speed of the prompt's tokens that were not cached."""
        evaluated = self.prompt_tokens - self.cached_tokens - self.restored_tokens
        return evaluated / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Speed of the answer's tokens, as a reader sees them come."""
        return self.decoded_tokens / self.decode_seconds if self.decode_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The request is finished."""

    id: int
    value: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed: `code` names a `NomoatError` and `arguments` are what its constructor takes."""

    id: int
    code: str
    arguments: tuple[str, ...]


def failure(request_id: int, error: Exception) -> Failed:
    """The answer to a request that failed with `error`; `Client` raises it again on the other side."""
    if isinstance(error, BadFileError):
        return Failed(request_id, error.code, (str(error.path), error.place, error.problem, error.hint))
    if isinstance(error, NomoatError):
        return Failed(request_id, error.code, (error.message, error.hint))
    if isinstance(error, MemoryError):
        return Failed(request_id, NotEnoughMemoryError.code, ("memory ran out", "close other programs"))
    if isinstance(error, OSError):
        return Failed(request_id, EngineError.code, (f"{error.filename}: {error.strerror}", ""))
    return Failed(
        request_id,
        EngineError.code,
        (f"{type(error).__name__}: {error}", "this is a fault of nomoat: report it"),
    )
