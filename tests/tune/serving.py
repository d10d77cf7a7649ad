"""llama.cpp's own logits, asked for directly: the oracle of what will serve an adapter."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from nomoat.formats.llama_log import silence_log

__all__ = ["LlamaCpp"]


class LlamaCpp:
    """Called with tokens and an adapter file (or None), as `nomoat.tune.export.LogitsOracle` asks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, tokens: Sequence[int], adapter: Path | None = None) -> NDArray[np.float32]:
        """Logits (T, V) of every position, KV memory in float32."""
        silence_log()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        model = llama_cpp.llama_model_load_from_file(str(self.path).encode(), parameters)
        assert model, f"llama.cpp refuses {self.path}"
        context = _context(model, len(tokens))
        try:
            if adapter is not None:
                _use_adapter(model, context, adapter)
            return _evaluate(model, context, tokens)
        finally:
            llama_cpp.llama_free(context)
            llama_cpp.llama_model_free(model)


def _context(model: Any, n_tokens: int) -> Any:
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = max(64, n_tokens)
    settings.n_threads = settings.n_threads_batch = 1
    settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, settings)
    assert context
    return context


def _use_adapter(model: Any, context: Any, path: Path) -> None:
    adapter = llama_cpp.llama_adapter_lora_init(model, str(path).encode())
    assert adapter, f"llama.cpp refuses {path}"
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0)) == 0


def _evaluate(model: Any, context: Any, tokens: Sequence[int]) -> NDArray[np.float32]:
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place], batch.pos[place], batch.logits[place] = int(token), place, 1
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
    try:
        assert llama_cpp.llama_decode(context, batch) == 0
        n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(tokens), n_vocab)))
    finally:
        llama_cpp.llama_batch_free(batch)
