"""llama.cpp's model as a small Python object: weights, vocabulary, adapters.

Only llama-cpp-python's low-level bindings are used. The caller owns the order of things: a context is closed
before its model. Everything here may end the process when llama.cpp finds a fault in itself, so only the
worker process imports this module.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp

from nomoat.base.errors import BadFileError, InputError
from nomoat.run.error_log import ErrorLog
from nomoat.run.protocol import FillInTokens

__all__ = ["AbortFlag", "Aborted", "Adapter", "Model"]

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
        self._ends: dict[int, bool] = {}
        self.vocab = llama_cpp.llama_model_get_vocab(self.pointer)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.n_embd = int(llama_cpp.llama_model_n_embd_out(self.pointer))
        self.bos_token_id = _known(llama_cpp.llama_vocab_bos(self.vocab))
        self.eos_token_id = _known(llama_cpp.llama_vocab_eos(self.vocab))
        self.eot_token_id = _known(llama_cpp.llama_vocab_eot(self.vocab))
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))
        self.fill_in = self._fill_in_tokens()
        self.is_encoder = not llama_cpp.llama_model_has_decoder(self.pointer)
        self.is_recurrent = bool(
            llama_cpp.llama_model_is_recurrent(self.pointer) or llama_cpp.llama_model_is_hybrid(self.pointer)
        )
        self.window_tokens = int(llama_cpp.llama_model_n_swa(self.pointer))

    @property
    def cuttable_tokens(self) -> float:
        """How many tokens a copied state may hold that can be cut back to any beginning of them.

        Any number with plain attention. Of layers with a sliding window a copy has the window alone, so of a longer
        text the end cannot be forgotten; of a recurrent state never.
        """
        if self.is_recurrent:
            return 0
        return self.window_tokens or math.inf

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

    def _fill_in_tokens(self) -> FillInTokens | None:
        prefix, suffix, middle, repository, file = (
            _known(getattr(llama_cpp, f"llama_vocab_fim_{name}")(self.vocab))
            for name in ("pre", "suf", "mid", "rep", "sep")
        )
        if prefix is None or suffix is None or middle is None:
            return None
        return FillInTokens(prefix, suffix, middle, repository, file)

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
        known = self._ends.get(token_id)
        if known is None:
            known = self._ends[token_id] = bool(llama_cpp.llama_vocab_is_eog(self.vocab, token_id))
        return known

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Every token for which `is_end` holds."""
        return tuple(token_id for token_id in range(self.n_vocab) if self.is_end(token_id))

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


def _known(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None
