"""The engine: a model in a worker process, as one object. Tokens in, tokens out.

The worker starts with the first request and is replaced after a crash: the requests that ran get an
`EngineError` that names the reason, the next one a new worker. Any thread may ask at any time: `parallel`
requests are answered together, the others wait their turn.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nomoat.base.errors import InputError
from nomoat.base.progress import Progress, Silent
from nomoat.base.settings import Settings
from nomoat.formats.chat_template import ChatTemplate, Message
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.run.adapters import AdapterRef, AdapterShelf
from nomoat.run.client import Client
from nomoat.run.generation import Generation
from nomoat.run.protocol import (
    Detokenize,
    Embed,
    Generate,
    Load,
    LoadedModel,
    Rows,
    Score,
    Stats,
    Tokenize,
    TokenLogprob,
    Unload,
)
from nomoat.run.sampling import SamplingParams
from nomoat.store.memory import check_fits, memory_need
from nomoat.store.store import Store, StoredModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Engine"]

_DEFAULT_CONTEXT_TOKENS = 8192
_MOST_PARALLEL = 48  # each needs a row of logits in every evaluation
_KV_BYTES = 512 * 2**20
_CELL_STEP = 256  # llama.cpp rounds to this
_STEADY_TYPES = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"}
_FLOAT_TYPES = {"F32", "F16", "BF16"}
_LEAST_STEADY_TOKENS = 3


class Engine:
    """Runs one model. Use it in a `with`, or `close` it.

    `context_length` defaults to what the model was trained for, at most 8,192 tokens; `threads` to the
    measured best. `model` is a `StoredModel`, whose digests say which adapters fit, or a GGUF file's path.
    """

    def __init__(
        self, model: StoredModel | Path | str, *, context_length: int | None = None,
        threads: int | None = None, parallel: int = 1, queue: int = 256, settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Read and check the file's header. Raises `NotFoundError`, `BadFileError` or `InputError`.

        `queue` requests may wait; one more raises `OverloadedError` when it is read.
        """
        if not 1 <= parallel <= _MOST_PARALLEL:
            raise InputError(f"{parallel} answers at once", f"use 1 to {_MOST_PARALLEL}")
        self.settings = settings or Settings.from_environment()
        self._stored = model if isinstance(model, StoredModel) else None
        self.gguf: GGUFFile = read_gguf(model.path if isinstance(model, StoredModel) else model)
        self.path = self.gguf.path.absolute()
        trained = self.gguf.hyperparameter("context_length", _DEFAULT_CONTEXT_TOKENS)
        self._context_length = _context_length(context_length, trained)
        self._template: ChatTemplate | None = None
        self._shelf = AdapterShelf(Store(self.settings.home, self.settings), self.stored)
        self._cells = self._shared_cells(parallel)
        load = self._load_request(threads, parallel, queue)
        self._client = Client(load, self._check_fits, progress or Silent())

    @property
    def model(self) -> LoadedModel:
        """What is known of the loaded model; loads it if need be."""
        return self._client.loaded()

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self._client.worker_pid

    @property
    def notices(self) -> list[str]:
        """What a user should know of the adapters used so far, each line once."""
        return list(self._shelf.notices)

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template."""
        if self._template is None:
            self._template = ChatTemplate.from_gguf(self.gguf)
        return self._template

    def encode(self, text: str, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of `text`. Raises `InputError` for text that is not Unicode."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"the text is not valid Unicode ({error.reason} at character {error.start})",
                             "save it as UTF-8") from error  # fmt: skip
        tokens: list[int] = self._client.ask(Tokenize(0, text, add_special, parse_special))
        return tokens

    tokenize = encode

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, control tokens included."""
        return b"".join(self.token_bytes(tokens)).decode("utf-8", "replace")

    def token_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token, control tokens included; a token may hold a part of a character."""
        pieces: list[bytes] = self._client.ask(Detokenize(0, list(tokens)))
        return pieces

    def encode_chat(
        self, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
    ) -> list[int]:
        """The prompt of a conversation, up to where the answer begins. `variables` are the template's own switches."""
        model = self.model
        vocabulary = _WorkerVocabulary(model.bos_token_id, model.adds_bos, self.encode)
        return self.template.encode(vocabulary, messages, True, variables)

    def generate(
        self, prompt: str | Sequence[int], sampling: SamplingParams | None = None,
        adapters: Sequence[AdapterRef] = (), *, reuse: bool = True, client: str = "", speculate: bool = True,
        progress: bool = False,
    ) -> Generation:  # fmt: skip
        """Continue a text (BOS is added where the model wants it) or token ids; iterate over the answer.

        `reuse` keeps what the KV memory holds of the prompt; without it the answer depends on nothing that
        came before, to the last bit where nothing else runs. Requests of different `client`s are served in
        turn. `speculate` lets tokens be guessed ahead, which changes no answer. `progress` lets chunks come
        that say how much of the prompt was read. Reading raises `ContextOverflowError` where the prompt does
        not fit the context.
        """
        tokens = self.encode(prompt, add_special=True) if isinstance(prompt, str) else list(prompt)
        params = (sampling or SamplingParams()).with_seed()
        request = Generate(0, tokens, params, self._shelf.files(adapters), reuse, client, speculate, progress)
        return Generation(self._client.begin(request))

    def chat(
        self, messages: Sequence[Message], sampling: SamplingParams | None = None,
        adapters: Sequence[AdapterRef] = (), *, reuse: bool = True, client: str = "",
        variables: Mapping[str, Any] | None = None,
    ) -> Generation:  # fmt: skip
        """Answer a conversation in the model's own chat template, whose own switches are `variables`."""
        sampling = sampling or SamplingParams()
        sampling = replace(sampling, stop=(*sampling.stop, *self.template.stop))
        return self.generate(
            self.encode_chat(messages, variables), sampling, adapters, reuse=reuse, client=client
        )

    def logits(self, tokens: Sequence[int], adapters: Sequence[AdapterRef] = ()) -> NDArray[np.float32]:
        """Logits `(T, n_vocab)` float32; row t is what follows tokens 0..t. Takes 4 T n_vocab bytes."""
        return self._rows(Score(0, list(tokens), "logits", self._shelf.files(adapters)))

    def token_logprobs(
        self, tokens: Sequence[int], adapters: Sequence[AdapterRef] = ()
    ) -> NDArray[np.float32]:
        """Natural log-probabilities `(T - 1,)` float32; entry t is that of token t + 1 after tokens 0..t."""
        return self._rows(Score(0, list(tokens), "logprobs", self._shelf.files(adapters)))

    def prompt_logprobs(
        self, tokens: Sequence[int], adapters: Sequence[AdapterRef] = (), top: int = 0
    ) -> list[TokenLogprob | None]:
        """What the model thought of each token, with the `top` likeliest in its place; None for the first."""
        request = Score(0, list(tokens), "top", self._shelf.files(adapters), top)
        return [None, *(entry for message in self._messages(request) for entry in message.values)]

    def stats(self) -> dict[str, float]:
        """Counters of the worker since its start, and what it does now."""
        counters: dict[str, float] = self._client.ask(Stats(0))
        return counters

    def embed(self, texts: Iterable[str | Sequence[int]]) -> NDArray[np.float32]:
        """One vector of length 1 per text or token ids, `(N, n_embd)` float32: the model's pooling, else the mean."""
        inputs = [
            self.encode(text, add_special=True) if isinstance(text, str) else list(text) for text in texts
        ]
        return self._rows(Embed(0, inputs))

    def check_adapter(self, ref: AdapterRef) -> None:
        """Raise what is wrong with an adapter, before anybody waits for an answer."""
        self._shelf.files([ref])

    def unload_adapters(self, keep: Sequence[AdapterRef] = ()) -> None:
        """Free the memory of every loaded adapter that is not in `keep`."""
        self._client.ask(Unload(0, tuple(path for path, _ in self._shelf.files(keep))))

    def stored(self) -> StoredModel:
        """The model as the store knows it, with its digests; a file that it does not know is hashed once."""
        if self._stored is None:
            store = Store(self.settings.home, self.settings)
            versions = (version for model in store.list() for version in store.versions(model.name))
            known = (version for version in versions if version.path.resolve() == self.path.resolve())
            self._stored = next(known, None) or store.resolve(self.path)
        return self._stored

    def load(self) -> Engine:
        """Start the worker and load the model now. Raises `BadFileError` or `EngineError`."""
        self._client.loaded()
        return self

    def close(self) -> None:
        """End the worker."""
        self._client.close()

    def kill(self) -> None:
        """End the worker at once, also one that loads; whoever waits for it gets an `EngineError`. From any thread."""
        self._client.kill()

    def __enter__(self) -> Engine:
        return self.load()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, request: Score | Embed) -> NDArray[np.float32]:
        import numpy as np

        rows = [message.values for message in self._messages(request)]
        return np.concatenate(rows) if rows else np.zeros((0, self.model.n_embd), np.float32)

    def _messages(self, request: Score | Embed) -> Iterator[Rows]:
        answers, _ = self._client.collect(request)
        return (message for message in answers if isinstance(message, Rows))

    def _load_request(self, threads: int | None, parallel: int, queue: int) -> Load:
        settings, cache = self.settings, self.settings.home / "cache"
        return Load(
            0, str(self.path), self._context_length, threads or settings.threads, str(cache / "threads"),
            parallel=parallel, cells=self._cells, queue=queue, model_digest=self._identity(),
            steady_tokens=_steady_tokens(self.gguf),
            kv_folder="" if settings.kv_cache_bytes == 0 else str(cache / "kv"),
            kv_bytes=settings.kv_cache_bytes,
            history_folder=str(cache / "history") if settings.history else "",
        )  # fmt: skip

    def _check_fits(self) -> None:
        check_fits(self.gguf, self._cells)

    def _shared_cells(self, parallel: int) -> int:
        """KV cells for all sequences: a whole context for each, as far as a moderate amount of memory goes."""
        one = memory_need(self.gguf, self._context_length).kv_bytes
        contexts = max(1.0, min(float(parallel), _KV_BYTES / one if one else math.inf))
        return -(-int(self._context_length * contexts) // _CELL_STEP) * _CELL_STEP

    def _identity(self) -> str:
        """Names the file's content as far as that costs nothing: by digest, else by place, size and time."""
        if self._stored is not None:
            return self._stored.digest
        status = self.path.stat()
        return f"{self.path}:{status.st_size}:{status.st_mtime_ns}"


@dataclass
class _WorkerVocabulary:
    """What a chat template needs of a vocabulary; the worker does the work."""

    bos_token_id: int | None
    adds_bos: bool
    encode: Callable[..., list[int]]


def _steady_tokens(gguf: GGUFFile) -> int | None:
    """On x86 the old types have one routine for any number of tokens, K types another from four on; else unknown.

    Floats have another from two on.
    """
    types = {tensor.ggml_type.name for tensor in gguf.tensors.values() if len(tensor.shape) > 1}
    if types & _FLOAT_TYPES:
        return 1
    if platform.machine() in {"x86_64", "AMD64"} and types <= _STEADY_TYPES:
        return None
    return _LEAST_STEADY_TOKENS


def _context_length(wanted: int | None, trained: object) -> int:
    most = trained if isinstance(trained, int) and trained > 0 else _DEFAULT_CONTEXT_TOKENS
    if wanted is None:
        return min(most, _DEFAULT_CONTEXT_TOKENS)
    if not 1 <= wanted <= most:
        raise InputError(f"a context of {wanted:,} tokens", f"this model was trained for 1 to {most:,}")
    return wanted
