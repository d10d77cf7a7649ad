"""llama.cpp's context: sequences of tokens under evaluation, their KV memory, logits, threads. No policy.

Several sequences share one KV memory ("unified"), so that a prefix which they have in common is held once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import EngineError
from nomoat.run.barriers import Barriers
from nomoat.run.llama import Aborted, AbortFlag, Adapter, Model
from nomoat.run.steady_attention import capture_attention

__all__ = ["Context", "NoRoom", "Part"]

_NO_SLOT, _ABORTED = 1, 2  # llama_decode's answers that are no faults
_POOLING_NONE, _POOLING_MEAN = 0, 1


class NoRoom(Exception):
    """The KV memory has no cells left for the tokens of this evaluation; nothing was evaluated."""


class Part(NamedTuple):
    """Tokens of one sequence, at positions `start` and on. Logits are wanted for the last `outputs` of them."""

    sequence: int
    start: int
    tokens: Sequence[int]
    outputs: int


class Context:
    """`sequences` token sequences with ids from 0, which share `cells` KV cells."""

    def __init__(
        self, model: Model, cells: int, threads: int, *, sequences: int = 1, batch_tokens: int = 512,
        output_tokens: int = 64, abort: AbortFlag | None = None, embeddings: bool = False,
        barriers: Barriers | None = None,
    ) -> None:  # fmt: skip
        """Allocate memory. `output_tokens` is the most logit rows per evaluation, which look after `barriers`.

        llama.cpp reserves logits for a whole batch unless told otherwise: 100 MB for this vocabulary of
        49,152 tokens, 300 MB for larger ones. Raises `EngineError` where the memory is not to be had.
        """
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_seq_max, parameters.kv_unified = sequences, True
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.n_outputs_max = 0 if embeddings else output_tokens
        parameters.embeddings = embeddings
        if abort is not None:
            abort.attach(parameters)
        with capture_attention() as self.attention:
            self.pointer = _new_context(model, parameters)
        if embeddings and llama_cpp.llama_pooling_type(self.pointer) == _POOLING_NONE:
            # A generative model has no pooling of its own: the mean of its last hidden states is used.
            llama_cpp.llama_free(self.pointer)
            parameters.pooling_type = _POOLING_MEAN
            with capture_attention() as self.attention:
                self.pointer = _new_context(model, parameters)
        # llama.cpp makes batches no larger than the context, and ends the process over one that is.
        self.batch_tokens = min(batch_tokens, int(llama_cpp.llama_n_batch(self.pointer)))
        self.model, self.output_tokens = model, output_tokens
        self.sequences, self.cells = sequences, int(llama_cpp.llama_n_ctx(self.pointer))
        self._barriers = barriers
        self._abort = abort  # the C side holds a pointer into it
        self._stop = parameters.abort_callback, parameters.abort_callback_data
        self._may_stop = True
        self._memory = llama_cpp.llama_get_memory(self.pointer)
        self._batch, self._one = _Batch(self.batch_tokens), _Batch(1)
        self._one.ask_for_all(1)
        self._logits = _Logits(self.pointer, (output_tokens, model.n_vocab))
        self._threads = threads, threads

    # -- evaluation ----------------------------------------------------------------------------------

    def evaluate(self, parts: Sequence[Part]) -> int:
        """Evaluate up to `batch_tokens` tokens in all; returns the number of logit rows, in the order of `parts`.

        Raises `NoRoom`, `Aborted`, or `EngineError` where llama.cpp fails.
        """
        rows = self._batch.fill(parts)
        self.model.log.clear()
        self._prepare(self._batch.struct.n_tokens, rows)
        self._check(llama_cpp.llama_decode(self.pointer, self._batch.struct))
        return rows

    def evaluate_one(self, token_id: int, position: int, sequence: int = 0) -> None:
        """`evaluate` for one token of one sequence: this is the loop that a reader waits for.

        After each decode the processor's caches are cold, so every Python object that it touches counts.
        """
        one = self._one
        one.token[0], one.position[0], one.sequence[0] = token_id, position, sequence
        self._prepare(1, 1)
        answer = llama_cpp.llama_decode(self.pointer, one.struct)
        if answer:
            self._check(answer)

    def logits(self, rows: int) -> NDArray[np.float32]:
        """Logits `(rows, n_vocab)` of the last evaluation, a view that is valid until the next one."""
        return self._logits.rows(rows)

    def pooled(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The embedding `(n_embd,)` of `tokens`; the context must have been made with `embeddings`."""
        self.clear()
        if self.model.is_encoder:
            raise EngineError("encoder-only models are not supported yet", "use a decoder model")
        self.evaluate([Part(0, 0, tokens, len(tokens))])
        vector = llama_cpp.llama_get_embeddings_seq(self.pointer, 0)
        if not vector:
            raise EngineError("the model gives no embeddings", "use another model for embeddings")
        return np.array(np.ctypeslib.as_array(vector, (self.model.n_embd,)))

    def set_adapters(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Use these adapters, added with their scales, from the next evaluation on."""
        count = len(adapters)
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*(adapter for adapter, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        if llama_cpp.llama_set_adapters_lora(self.pointer, pointers, count, scales) != 0:
            raise EngineError("llama.cpp refused the adapters", "use them one at a time to find the culprit")

    def set_threads(self, decode: int, batch: int) -> None:
        """Threads for one token at a time, and for several."""
        if (decode, batch) != self._threads:
            self._threads = decode, batch
            llama_cpp.llama_set_n_threads(self.pointer, decode, batch)

    # -- memory --------------------------------------------------------------------------------------

    def truncate(self, sequence: int, count: int) -> bool:
        """Forget the sequence's tokens from position `count` on. False where this memory cannot: all is forgotten."""
        if count > 0 and self.serves(sequence, count):
            if llama_cpp.llama_memory_seq_rm(self._memory, sequence, count, -1):
                return True
        self.forget(sequence)
        return count == 0

    def share(self, source: int, target: int, count: int) -> bool:
        """Let the empty `target` hold the first `count` tokens of `source`, too. False where this memory cannot.

        Nothing is computed or copied: both sequences then refer to the same cells.
        """
        if not self.serves(source, count):
            return False
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, count)
        return True

    def serves(self, sequence: int, count: int) -> bool:
        """Whether a token could follow the first `count` of the sequence's tokens, if the others were forgotten."""
        held = self.held_tokens(sequence)
        first = int(llama_cpp.llama_memory_seq_pos_min(self._memory, sequence))
        if self.model.is_recurrent:  # one state stands for all tokens up to its own
            return held == count == first + 1
        # Sliding windows drop old tokens: what is kept must still reach back to the start of the next one's window.
        window = self.model.window_tokens
        return held >= count and first <= (max(0, count + 1 - window) if window else 0)

    def forget(self, sequence: int) -> None:
        """Empty one sequence."""
        if self._memory:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Empty all sequences."""
        if self._memory:
            # Only what is held is forgotten: wiping the buffer itself takes 50 ms for 8,192 tokens.
            llama_cpp.llama_memory_clear(self._memory, False)

    def held_tokens(self, sequence: int) -> int:
        """How many tokens the memory holds of a sequence."""
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def state_bytes(self, sequence: int) -> int:
        """Size of `state`."""
        return int(llama_cpp.llama_state_seq_get_size(self.pointer, sequence))

    def state(self, sequence: int) -> NDArray[np.uint8]:
        """A copy of the sequence's keys and values, as `restore` takes them."""
        data = np.empty(self.state_bytes(sequence), np.uint8)
        into = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = llama_cpp.llama_state_seq_get_data(self.pointer, into, data.size, sequence)
        return data[:written]

    def restore(self, sequence: int, data: memoryview) -> bool:
        """Let the empty `sequence` hold what `state` gave. False where llama.cpp refuses it."""
        values = np.frombuffer(data, np.uint8)
        source = values.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if llama_cpp.llama_state_seq_set_data(self.pointer, source, values.size, sequence):
            return True
        self.forget(sequence)
        return False

    def close(self) -> None:
        """Free the memory."""
        if self.pointer is not None:
            llama_cpp.llama_free(self.pointer)
            self.pointer = None

    def _prepare(self, tokens: int, rows: int) -> None:
        self.attention.prepare(tokens)
        if self.model.is_recurrent and self._may_stop != (tokens > rows):
            # A state that was stopped between two layers is lost, and the conversation with it. Reading a prompt takes
            # so long that it is worth that; the next token of each answer is finished sooner.
            self._may_stop = tokens > rows
            stop = self._stop if self._may_stop else (llama_cpp.ggml_abort_callback(), None)
            llama_cpp.llama_set_abort_callback(self.pointer, *stop)
        if self._barriers is not None:
            self._barriers.look()

    def _check(self, answer: int) -> None:
        if answer == 0:
            return
        if answer == _ABORTED:
            raise Aborted
        if answer == _NO_SLOT:
            raise NoRoom
        reason = self.model.log.reason()
        raise EngineError(f"llama.cpp could not evaluate the tokens (answer {answer}: {reason})",
                          "try again; if it fails again, the model file may be damaged")  # fmt: skip


class _Logits:
    """llama.cpp's logits as an array, made anew only where they have moved: that costs more than looking at them."""

    def __init__(self, context: Any, shape: tuple[int, int]) -> None:
        self._context, self._shape = context, shape
        # The binding's own result is a pointer object, whose address costs two more.
        where = ctypes.cast(llama_cpp.llama_get_logits, ctypes.c_void_p).value
        self._find = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(where or 0)
        self._address: int | None = None
        self._all = self._first = np.empty((0, 0), np.float32)

    def rows(self, count: int) -> NDArray[np.float32]:
        address = self._find(self._context)
        if address != self._address:
            values = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
            self._address, self._all = address, np.ctypeslib.as_array(values, self._shape)
            self._first = self._all[:1]
        return self._first if count == 1 else self._all[:count]


class _Batch:
    """A `llama_batch` over numpy arrays, made once."""

    def __init__(self, capacity: int) -> None:
        self.token = np.zeros(capacity, np.int32)
        self.position = np.zeros(capacity, np.int32)
        self.sequence = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        self._count = np.ones(capacity, np.int32)
        step, first = self.sequence.itemsize, self.sequence.ctypes.data
        pointer = ctypes.POINTER(llama_cpp.llama_seq_id)
        places = [ctypes.cast(first + i * step, pointer) for i in range(capacity)]
        self._places = (pointer * capacity)(*places)
        self.struct = llama_cpp.llama_batch(
            capacity, _address(self.token, ctypes.c_int32), None, _address(self.position, ctypes.c_int32),
            _address(self._count, ctypes.c_int32), self._places, _address(self._output, ctypes.c_int8),
        )  # fmt: skip

    def ask_for_all(self, count: int) -> None:
        """Logits for each of `count` tokens."""
        self.struct.n_tokens = count
        self._output[:count] = 1

    def fill(self, parts: Sequence[Part]) -> int:
        """Lay `parts` end to end; returns how many logit rows they want."""
        place = rows = 0
        for part in parts:
            count = len(part.tokens)
            end = place + count
            self.token[place:end] = part.tokens
            self.position[place:end] = np.arange(part.start, part.start + count)
            self.sequence[place:end] = part.sequence
            self._output[place:end] = 0
            self._output[end - part.outputs : end] = 1
            place, rows = end, rows + part.outputs
        self.struct.n_tokens = place
        return rows


def _address(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _new_context(model: Model, parameters: Any) -> Any:
    model.log.clear()
    pointer = llama_cpp.llama_init_from_model(model.pointer, parameters)
    if not pointer:
        raise EngineError(
            f"no context of {parameters.n_ctx:,} tokens can be made ({model.log.reason()})",
            "use a smaller --context-length, or close other programs",
        )
    return pointer
