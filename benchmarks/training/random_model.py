"""A model of a real one's shape and quantisation with random weights: for memory and time its words do not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from nomoat.base.files import atomic_path

__all__ = ["QWEN_1_5B", "Shape", "write_random_model"]

_Kind = gguf.GGMLQuantizationType
_STANDARD_DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """A qwen2 model's hyperparameters under their Hugging Face names; embeddings are tied."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    context_length: int = 32768
    rope_theta: float = 1e6

    @property
    def kv_width(self) -> int:
        """Columns of k, and of v."""
        return self.hidden_size // self.num_attention_heads * self.num_key_value_heads


QWEN_1_5B = Shape(1536, 28, 12, 2, 8960, 151936)


def write_random_model(path: Path, shape: Shape) -> None:
    """Write a GGUF with the types of llama.cpp's recipe Q4_K_M to `path`, block by block, in seconds."""
    tensors = list(_tensors(shape))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "qwen2")
        _add_metadata(writer, shape)
        for name, rows, columns, kind in tensors:
            writer.add_tensor_info(*_info(name, rows, columns, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(0)
        for _, rows, columns, kind in tensors:
            writer.write_tensor_data(_FILLERS[kind](rng, rows, columns))
        writer.close()


def _tensors(shape: Shape) -> Iterator[tuple[str, int, int, _Kind]]:
    """Name, rows (0 for a vector), columns and type, in file order."""
    hidden, kv, inner = shape.hidden_size, shape.kv_width, shape.intermediate_size
    yield "token_embd.weight", shape.vocab_size, hidden, _Kind.Q6_K
    yield "output_norm.weight", 0, hidden, _Kind.F32
    for layer in range(shape.num_hidden_layers):
        better = _Kind.Q6_K if _uses_more_bits(layer, shape.num_hidden_layers) else _Kind.Q4_K
        parts = {
            "attn_q": (hidden, hidden, _Kind.Q4_K), "attn_k": (kv, hidden, _Kind.Q4_K),
            "attn_v": (kv, hidden, better), "attn_output": (hidden, hidden, _Kind.Q4_K),
            "ffn_gate": (inner, hidden, _Kind.Q4_K), "ffn_up": (inner, hidden, _Kind.Q4_K),
            "ffn_down": (hidden, inner, better), "attn_norm": (0, hidden, _Kind.F32),
            "ffn_norm": (0, hidden, _Kind.F32),
        }  # fmt: skip
        for part, (rows, columns, kind) in parts.items():
            yield f"blk.{layer}.{part}.weight", rows, columns, kind
        for part, width in (("attn_q", hidden), ("attn_k", kv), ("attn_v", kv)):
            yield f"blk.{layer}.{part}.bias", 0, width, _Kind.F32


def _uses_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's choice for Q4_K_M: the first and last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _info(name: str, rows: int, columns: int, kind: _Kind) -> tuple[str, tuple[int, ...], np.dtype, int]:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    row_bytes = columns // elements * size
    if kind == _Kind.F32:
        return name, (columns,), np.dtype(np.float32), row_bytes
    return name, (rows, row_bytes), np.dtype(np.uint8), rows * row_bytes


def _q4_k(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Blocks d * scale * quant - dmin * minimum: two float16, 12 bytes of 6-bit scales and minima, 128 of quants."""
    blocks = np.frombuffer(rng.bytes(rows * columns // 256 * 144), np.uint8).reshape(-1, 144).copy()
    d = _STANDARD_DEVIATION / 258  # the deviation of the random integers' combination
    blocks[:, :4] = np.array([d, 7.5 * d], np.float16).view(np.uint8)  # minima centre the values around 0
    return blocks.reshape(rows, -1)


def _q6_k(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Blocks d * scale * (quant - 32): 192 bytes of quants, 16 of scales, one float16."""
    blocks = np.frombuffer(rng.bytes(rows * columns // 256 * 210), np.uint8).reshape(-1, 210).copy()
    blocks[:, 208:] = np.array([_STANDARD_DEVIATION / 1367], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def _f32(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Near 1, which suits norms and harms no bias."""
    return (1 + 0.05 * rng.standard_normal(columns)).astype(np.float32)


_FILLERS: dict[_Kind, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    _Kind.Q4_K: _q4_k,
    _Kind.Q6_K: _q6_k,
    _Kind.F32: _f32,
}


def _add_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(shape.rope_theta)
    _add_byte_vocabulary(writer, shape.vocab_size)


def _add_byte_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """One token for each byte in GPT-2's spelling, the rest unused: enough for llama.cpp to load the file."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    letters = [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*letters, *(f"<unused {i}>" for i in range(256, size))])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.UNUSED] * (size - 256))
    writer.add_token_merges([f"{letters[97]} {letters[98]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
