"""llama.cpp's model and context as two small Python objects. No policy: that lives in `session`.

Only llama-cpp-python's low-level bindings are used. The caller owns the order of things: a context is closed
before its model. Everything here may end the process when llama.cpp finds a fault in itself, so only the
worker process imports this module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import BadFileError, EngineError, InputError
from nomoat.run.error_log import ErrorLog

__all__ = ["AbortFlag", "Aborted", "Adapter", "Context", "Model"]

_SEQUENCE = 0
_NO_SLOT, _ABORTED = 1, 2  # llama_decode's answers that are no faults
_POOLING_NONE, _POOLING_MEAN = 0, 1
_REMEDY = "compare the file's digest with its source; if it is whole, this llama.cpp may be too old for it"

Adapter = Any
"""A loaded LoRA adapter: llama.cpp's pointer, freed by `Model.free_adapter`."""


class Aborted(Exception):
    """The evaluation was stopped through the context's `AbortFlag`; what was finished stays in memory."""


class AbortFlag:
    """Stops a running evaluation from another thread, within one operation of the network.

    llama.cpp asks a C function `bool (*)(void *)` after each operation, from the computing thread. A Python
    callback there would take the interpreter's lock hundreds of times per token. The C library's `strlen` has
    the right shape: it answers 0 for the empty string and 1 for "x", so the flag is one byte of a buffer.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)

    def set(self) -> None:
        """Stop the evaluation that runs, and every later one until `clear`."""
        self._buffer[0] = b"x"

    def clear(self) -> None:
        """Let evaluations run."""
        self._buffer[0] = b"\0"

    def is_set(self) -> bool:
        """Whether evaluations are being stopped."""
        return self._buffer[0] != b"\0"

    def attach(self, parameters: Any) -> None:
        """Put the flag into `llama_context_params`."""
        strlen = ctypes.CDLL(None).strlen
        parameters.abort_callback = ctypes.cast(strlen, llama_cpp.ggml_abort_callback)
        parameters.abort_callback_data = ctypes.addressof(self._buffer)


class Model:
    """Weights and vocabulary of one GGUF file."""

    def __init__(self, path: Path, log: ErrorLog, on_progress: Callable[[float], None] | None = None) -> None:
        """Load the file; `on_progress` gets the share loaded, 0 to 1, and `log` says why something failed.

        Raises `BadFileError` with llama.cpp's own reason where it refuses the file.
        """
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()

        def report(share: float, user_data: object) -> bool:
            if on_progress is not None:
                on_progress(share)
            return True

        callback = llama_cpp.llama_progress_callback(report)
        parameters.progress_callback = callback
        log.clear()
        self.pointer = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.pointer:
            raise BadFileError(path, "", f"llama.cpp cannot load it ({log.reason()})", _REMEDY)
        self.path, self.log = path, log
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self.vocab = llama_cpp.llama_model_get_vocab(self.pointer)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.n_embd = int(llama_cpp.llama_model_n_embd_out(self.pointer))
        self.bos_token_id = _known(llama_cpp.llama_vocab_bos(self.vocab))
        self.eos_token_id = _known(llama_cpp.llama_vocab_eos(self.vocab))
        self.eot_token_id = _known(llama_cpp.llama_vocab_eot(self.vocab))
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))
        self.is_encoder = not llama_cpp.llama_model_has_decoder(self.pointer)

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`, as `Vocabulary.encode` gives them."""
        content = text.encode("utf-8")
        capacity = len(content) + 2
        for _ in range(2):
            buffer = (llama_cpp.llama_token * capacity)()
            count = llama_cpp.llama_tokenize(
                self.vocab, content, len(content), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(buffer[:count])
            capacity = -count
        raise InputError("the text cannot be tokenized: it is too long", "split it")

    def token_bytes(self, token_id: int, special: bool = False) -> bytes:
        """The bytes of one token; control tokens are empty unless `special`."""
        known = self._pieces.get((token_id, special))
        if known is None:
            known = self._pieces[token_id, special] = self._piece(token_id, special)
        return known

    def _piece(self, token_id: int, special: bool) -> bytes:
        capacity = 64
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            count = llama_cpp.llama_token_to_piece(self.vocab, token_id, buffer, capacity, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            capacity = -count

    def is_end(self, token_id: int) -> bool:
        """Whether the model means "I have finished" by this token."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token_id))

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise `InputError` for an id outside the vocabulary, which would end the process in llama.cpp."""
        for token_id in (min(tokens), max(tokens)) if tokens else ():
            if not 0 <= token_id < self.n_vocab:
                raise InputError(f"token id {token_id} is not in the vocabulary (0 to {self.n_vocab - 1})",
                                 "encode the text with this model's own tokenizer")  # fmt: skip

    def load_adapter(self, path: Path) -> Adapter:
        """Load a LoRA adapter in GGUF form; it stays with the model until freed."""
        self.log.clear()
        adapter = llama_cpp.llama_adapter_lora_init(self.pointer, str(path).encode())
        if not adapter:
            raise BadFileError(path, "", f"llama.cpp cannot load this adapter ({self.log.reason()})",
                               "export the adapter again")  # fmt: skip
        return adapter

    def free_adapter(self, adapter: Adapter) -> None:
        """Free an adapter that no context uses any more."""
        llama_cpp.llama_adapter_lora_free(adapter)

    def close(self) -> None:
        """Free the weights and every adapter left."""
        if self.pointer is not None:
            llama_cpp.llama_model_free(self.pointer)
            self.pointer = None


class Context:
    """One sequence of tokens under evaluation: KV memory, logits, threads."""

    def __init__(
        self, model: Model, context_length: int, threads: int, *, batch_tokens: int = 512,
        output_tokens: int = 64, abort: AbortFlag | None = None, embeddings: bool = False,
    ) -> None:  # fmt: skip
        """Allocate memory for `context_length` tokens. `output_tokens` is the most logit rows per evaluation.

        llama.cpp reserves logits for a whole batch unless told otherwise: 100 MB for this vocabulary of
        49,152 tokens, 300 MB for larger ones. Raises `EngineError` where the memory is not to be had.
        """
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context_length
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.n_outputs_max = 0 if embeddings else output_tokens
        parameters.embeddings = embeddings
        if abort is not None:
            abort.attach(parameters)
        self.pointer = _new_context(model, parameters)
        if embeddings and llama_cpp.llama_pooling_type(self.pointer) == _POOLING_NONE:
            # A generative model has no pooling of its own: the mean of its last hidden states is used.
            llama_cpp.llama_free(self.pointer)
            parameters.pooling_type = _POOLING_MEAN
            self.pointer = _new_context(model, parameters)
        self.model, self.batch_tokens, self.output_tokens = model, batch_tokens, output_tokens
        self.context_length = int(llama_cpp.llama_n_ctx(self.pointer))
        self._abort = abort  # the C side holds a pointer into it
        self._memory = llama_cpp.llama_get_memory(self.pointer)
        self._batch = llama_cpp.llama_batch_init(batch_tokens, 0, 1)
        self._one = _SingleToken()
        self._view: tuple[int, NDArray[np.float32]] | None = None
        self._tokens, self._positions, self._outputs = (
            np.ctypeslib.as_array(column, (batch_tokens,))
            for column in (self._batch.token, self._batch.pos, self._batch.logits)
        )
        for index in range(batch_tokens):
            self._batch.n_seq_id[index] = 1
            self._batch.seq_id[index][0] = _SEQUENCE

    def evaluate(self, tokens: Sequence[int], start: int, outputs: str = "last") -> None:
        """Evaluate up to `batch_tokens` tokens at positions `start` and on.

        `outputs` says for which of them logits are wanted: "last", "all" or "none". Raises `Aborted`, or
        `EngineError` where llama.cpp fails.
        """
        count = len(tokens)
        self._batch.n_tokens = count
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(start, start + count)
        self._outputs[:count] = outputs == "all"
        if outputs == "last":
            self._outputs[count - 1] = 1
        self.model.log.clear()
        self._check(llama_cpp.llama_decode(self.pointer, self._batch))

    def evaluate_one(self, token_id: int, position: int) -> None:
        """`evaluate` for one token, without the arrays: this is the loop that a reader waits for."""
        one = self._one
        one.token[0], one.position[0] = token_id, position
        answer = llama_cpp.llama_decode(self.pointer, one.batch)
        if answer:
            self._check(answer)

    def logits(self, count: int = 0) -> NDArray[np.float32]:
        """Logits of the last evaluation: `(n_vocab,)` of its last output, or `(count, n_vocab)` of "all".

        A view into llama.cpp's memory, valid until the next evaluation.
        """
        n_vocab = self.model.n_vocab
        if count:
            return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.pointer), (count, n_vocab))
        values = llama_cpp.llama_get_logits_ith(self.pointer, -1)
        address = ctypes.addressof(values.contents)
        if self._view is None or self._view[0] != address:  # the place changes only with the batch's size
            self._view = address, np.ctypeslib.as_array(values, (n_vocab,))
        return self._view[1]

    def pooled(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The embedding `(n_embd,)` of `tokens`; the context must have been made with `embeddings`."""
        self.clear()
        if self.model.is_encoder:
            raise EngineError("encoder-only models are not supported yet", "use a decoder model")
        self.evaluate(tokens, 0, "all")
        vector = llama_cpp.llama_get_embeddings_seq(self.pointer, _SEQUENCE)
        if not vector:
            raise EngineError("the model gives no embeddings", "use another model for embeddings")
        return np.array(np.ctypeslib.as_array(vector, (self.model.n_embd,)))

    def keep_prefix(self, count: int) -> bool:
        """Forget every token from position `count` on. False where this memory cannot: it is cleared then."""
        if count > 0 and llama_cpp.llama_memory_seq_rm(self._memory, _SEQUENCE, count, -1):
            # Sliding windows drop old tokens: the kept prefix must still reach back to its start.
            if llama_cpp.llama_memory_seq_pos_min(self._memory, _SEQUENCE) == 0:
                return True
        self.clear()
        return count == 0

    def clear(self) -> None:
        """Forget every token."""
        if self._memory:
            # Only what is held is forgotten: wiping the buffer itself takes 50 ms for 8,192 tokens.
            llama_cpp.llama_memory_clear(self._memory, False)

    def held_tokens(self) -> int:
        """How many tokens the memory holds."""
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, _SEQUENCE)) + 1

    def set_adapters(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Use these adapters, added with their scales, from the next evaluation on."""
        count = len(adapters)
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*(adapter for adapter, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        if llama_cpp.llama_set_adapters_lora(self.pointer, pointers, count, scales) != 0:
            raise EngineError("llama.cpp refused the adapters", "use them one at a time to find the culprit")

    def set_threads(self, decode: int, batch: int) -> None:
        """Threads for one token at a time, and for many."""
        llama_cpp.llama_set_n_threads(self.pointer, decode, batch)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer is not None:
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self.pointer)
            self.pointer = None

    def _check(self, answer: int) -> None:
        if answer == 0:
            return
        if answer == _ABORTED:
            raise Aborted
        if answer == _NO_SLOT:
            raise InputError(f"the context of {self.context_length:,} tokens is full",
                             "use a larger --context-length or a shorter text")  # fmt: skip
        reason = self.model.log.reason()
        raise EngineError(f"llama.cpp could not evaluate the tokens (answer {answer}: {reason})",
                          "try again; if it fails again, the model file may be damaged")  # fmt: skip


class _SingleToken:
    """A batch of one token with logits, made once: after each decode the processor's caches are cold, so
    every Python object that the loop touches counts.
    """

    def __init__(self) -> None:
        self.token = (llama_cpp.llama_token * 1)()
        self.position = (llama_cpp.llama_pos * 1)()
        self._count = (ctypes.c_int32 * 1)(1)
        self._sequence = (llama_cpp.llama_seq_id * 1)(_SEQUENCE)
        self._sequences = (ctypes.POINTER(llama_cpp.llama_seq_id) * 1)(self._sequence)
        self._output = (ctypes.c_int8 * 1)(1)
        self.batch = llama_cpp.llama_batch(
            1, self.token, None, self.position, self._count, self._sequences, self._output
        )


def _new_context(model: Model, parameters: Any) -> Any:
    model.log.clear()
    pointer = llama_cpp.llama_init_from_model(model.pointer, parameters)
    if not pointer:
        raise EngineError(
            f"no context of {parameters.n_ctx:,} tokens can be made ({model.log.reason()})",
            "use a smaller --context-length, or close other programs",
        )
    return pointer


def _known(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None
