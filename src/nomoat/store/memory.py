"""Whether a model fits in this machine's memory, asked before it is loaded and answered with figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from nomoat.base.errors import BadFileError, NotEnoughMemoryError
from nomoat.formats.gguf_file import GGUFFile

__all__ = ["MemoryNeed", "available_memory_bytes", "check_fits", "memory_need"]

_BATCH_TOKENS = 512  # llama.cpp's micro-batch, whose logits and activations it keeps room for
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryNeed:
    """What loading takes, in bytes: the weights, the KV cache, and room to work in."""

    weights_bytes: int
    kv_bytes: int
    work_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum."""
        return self.weights_bytes + self.kv_bytes + self.work_bytes


def memory_need(gguf: GGUFFile, context_length: int, kv_bytes_per_element: float = 2) -> MemoryNeed:
    """Estimate for a context of `context_length` tokens; 2 bytes per KV element is float16."""
    hidden = _count(gguf, "embedding_length")
    inner = _count(gguf, "feed_forward_length", 4 * hidden)
    vocabulary = len(gguf.metadata.get("tokenizer.ggml.tokens") or []) or _count(gguf, "vocab_size", 0)
    kv_bytes = int(_kv_elements_per_token(gguf, hidden) * context_length * kv_bytes_per_element)
    work_bytes = 4 * min(_BATCH_TOKENS, context_length) * (vocabulary + 4 * hidden + 2 * inner)
    return MemoryNeed(gguf.size_bytes, kv_bytes, work_bytes)


def check_fits(
    gguf: GGUFFile, context_length: int, kv_bytes_per_element: float = 2, available_bytes: int | None = None
) -> MemoryNeed:
    """Return the need, or raise `NotEnoughMemoryError` with figures and what would fit.

    `available_bytes` defaults to what this machine, or this container, can still give.
    """
    if available_bytes is None:
        available_bytes = available_memory_bytes()
    need = memory_need(gguf, context_length, kv_bytes_per_element)
    if need.total_bytes <= available_bytes:
        return need
    message = (
        f"{gguf.path.name} with a context of {context_length:,} tokens needs {_gb(need.total_bytes)}"
        f" (weights {_gb(need.weights_bytes)}, context {_gb(need.kv_bytes)}, work {_gb(need.work_bytes)}),"
        f" but {_gb(available_bytes)} are free"
    )
    raise NotEnoughMemoryError(message, _remedy(need, context_length, available_bytes))


def available_memory_bytes() -> int:
    """Bytes that can still be used without swapping, within the limit of this container if there is one."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is none
        used = int((_CGROUP / "memory.current").read_text())
        lines = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        cached = next(int(value) for key, value in lines if key == "file")
    except (OSError, ValueError, StopIteration):
        return available
    return min(available, limit - used + cached)  # cached files give way


def _remedy(need: MemoryNeed, context_length: int, available_bytes: int) -> str:
    room = available_bytes - need.weights_bytes - need.work_bytes
    fitting = room * context_length // need.kv_bytes // 256 * 256 if room > 0 and need.kv_bytes else 0
    if fitting >= 256:
        return f"a context of {fitting:,} tokens would fit; or close other programs"
    return "close other programs, or use a smaller quantisation (Q4_K_M, say) or a smaller model"


def _kv_elements_per_token(gguf: GGUFFile, hidden: int) -> int:
    """Elements of K and V that one token adds in all layers.

    Recurrent layers say that they have no heads, and add none: their states are small beside the weights.
    """
    heads = _count(gguf, "attention.head_count", 1)
    by_layer = gguf.hyperparameter("attention.head_count_kv", heads)
    if isinstance(by_layer, list) and all(isinstance(count, int) for count in by_layer):
        kv_heads = sum(by_layer)
    else:
        kv_heads = _count(gguf, "block_count") * _count(gguf, "attention.head_count_kv", heads)
    head_size = hidden // heads if heads else hidden
    key, value = (_count(gguf, f"attention.{part}_length", head_size) for part in ("key", "value"))
    return kv_heads * (key + value)


def _count(gguf: GGUFFile, name: str, default: int | None = None) -> int:
    """A hyperparameter; of one that differs by layer, the largest value."""
    value = gguf.hyperparameter(name, default)
    if isinstance(value, list) and value and isinstance(value[0], int):
        value = max(value)
    if not isinstance(value, int):
        raise BadFileError(gguf.path, f"key '{gguf.architecture}.{name}'", f"{value!r} is no count",
                           "use a complete model in GGUF form")  # fmt: skip
    return value


def _gb(count_bytes: int) -> str:
    return f"{max(count_bytes, 0) / 1e9:.2f} GB"
