"""Independent oracles: the same GGUF as a transformers model, and tiny GGUF files of any supported shape."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from llama_cpp._ggml import libggml
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.tune.tokenise import Example

HF_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def example(length: int, seed: int, vocabulary: int = 256, supervised: bool = True) -> Example:
    """A document of random tokens."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocabulary, length).astype(np.int32)
    mask = np.full(length, True) if supervised else rng.random(length) < 0.5
    mask[0], mask[-1] = False, True
    return Example(tokens, mask, f"document-{seed}", length)


def transformers_model(path: Path) -> PreTrainedModel:
    """The file's weights, dequantised by the `gguf` package, in transformers' own network, float32."""
    header = read_gguf(path)
    heads = header.hyperparameter("attention.head_count")
    kv_heads = header.hyperparameter("attention.head_count_kv")
    tied = "output.weight" not in header.tensors
    shared = {
        "hidden_size": header.hyperparameter("embedding_length"), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "num_hidden_layers": header.hyperparameter("block_count"),
        "intermediate_size": header.hyperparameter("feed_forward_length"),
        "vocab_size": header.tensors["token_embd.weight"].shape[1],
        "rms_norm_eps": header.hyperparameter("attention.layer_norm_rms_epsilon"),
        "rope_theta": header.hyperparameter("rope.freq_base"), "tie_word_embeddings": tied,
        "max_position_embeddings": header.hyperparameter("context_length"),
    }  # fmt: skip
    qwen = header.architecture == "qwen2"
    model = Qwen2ForCausalLM(Qwen2Config(**shared)) if qwen else LlamaForCausalLM(LlamaConfig(**shared))
    state = {}
    for name in header.tensors:
        values = torch.from_numpy(dequantised(header, name))
        if not qwen and ("attn_q." in name or "attn_k." in name):
            values = unpermuted(values, heads if "attn_q." in name else kv_heads)
        state[_transformers_name(name)] = values
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return model.eval()


def dequantised(file: GGUFFile, name: str) -> np.ndarray:
    """A tensor of `file` as float32, rows first, by the `gguf` package's own routines."""
    info = file.tensors[name]
    shape = info.shape[::-1]
    blocks = np.asarray(file.raw(name)).reshape(*shape[:-1], -1)
    kind = gguf.GGMLQuantizationType(int(info.ggml_type))
    return np.array(gguf.quants.dequantize(blocks, kind), np.float32).reshape(shape)


@dataclass(frozen=True)
class TinyShape:
    """What a tiny model looks like; `rope_factors` adds Llama 3's tensor of frequency divisors."""

    layers: int = 2
    tied: bool = True
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    rope_factors: bool = False


def tiny_gguf(path: Path, architecture: str, quantisation: str, **shape: int | bool) -> Path:
    """A random model of hidden size 256 (K-quants need blocks of 256) and 256 tokens; `shape` as in `TinyShape`.

    Its weights are large enough that attention is sharp and logits are far apart: a mistake must show.
    """
    tiny = TinyShape(**shape)  # type: ignore[arg-type]
    writer = gguf.GGUFWriter(path, architecture)
    _add_header(writer, tiny)
    kind, rng = gguf.GGMLQuantizationType[quantisation], np.random.default_rng(7)
    for name, (rows, columns) in _matrices(tiny).items():
        values = (rng.standard_normal((rows, columns)) * (1.5 / np.sqrt(columns))).astype(np.float32)
        writer.add_tensor(name, packed(values, kind), raw_dtype=kind)
    for name, values in _vectors(tiny, architecture, rng).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_header(writer: gguf.GGUFWriter, tiny: TinyShape) -> None:
    writer.add_block_count(tiny.layers)
    writer.add_context_length(512)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(512)
    writer.add_head_count(tiny.heads)
    writer.add_head_count_kv(tiny.kv_heads)
    writer.add_key_length(tiny.head_dim)
    writer.add_value_length(tiny.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(tiny.head_dim)
    writer.add_vocab_size(256)
    _add_byte_vocabulary(writer)


def _matrices(tiny: TinyShape) -> dict[str, tuple[int, int]]:
    q_width, kv_width = tiny.heads * tiny.head_dim, tiny.kv_heads * tiny.head_dim
    parts = {
        "attn_q": (q_width, 256), "attn_k": (kv_width, 256), "attn_v": (kv_width, 256), "attn_output": (256, q_width),
        "ffn_gate": (512, 256), "ffn_up": (512, 256), "ffn_down": (256, 512),
    }  # fmt: skip
    outer = {"token_embd.weight": (256, 256)} | ({} if tiny.tied else {"output.weight": (256, 256)})
    blocks = {f"blk.{i}.{part}.weight": parts[part] for i in range(tiny.layers) for part in parts}
    return outer | blocks


def _vectors(tiny: TinyShape, architecture: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    vectors = {"output_norm.weight": 1 + 0.1 * rng.standard_normal(256)}
    for i in range(tiny.layers):
        vectors[f"blk.{i}.attn_norm.weight"] = 1 + 0.1 * rng.standard_normal(256)
        vectors[f"blk.{i}.ffn_norm.weight"] = 1 + 0.1 * rng.standard_normal(256)
        if architecture == "qwen2":
            for part, heads in (("attn_q", tiny.heads), ("attn_k", tiny.kv_heads), ("attn_v", tiny.kv_heads)):
                vectors[f"blk.{i}.{part}.bias"] = 0.5 * rng.standard_normal(heads * tiny.head_dim)
    if tiny.rope_factors:
        vectors["rope_freqs.weight"] = np.linspace(1, 8, tiny.head_dim // 2)
    return vectors


def packed(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """float32 (rows, columns) quantised by ggml itself, uint8 (rows, bytes of a row)."""
    rows, columns = values.shape
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.empty((rows, columns // elements * size), np.uint8)
    if kind == gguf.GGMLQuantizationType.F32:
        return values
    quantize = libggml.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    values = np.ascontiguousarray(values)
    written = quantize(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    assert written == out.nbytes
    return out


def _add_byte_vocabulary(writer: gguf.GGUFWriter) -> None:
    """256 tokens, one for each byte, in GPT-2's spelling; enough for llama.cpp to load the file."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    spelling = {byte: chr(byte) if byte in kept else chr(next(others)) for byte in range(256)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([spelling[byte] for byte in range(256)])
    writer.add_token_types([1] * 256)
    writer.add_token_merges([f"{spelling[97]} {spelling[98]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def unpermuted(values: torch.Tensor, heads: int) -> torch.Tensor:
    """llama-architecture GGUF files interleave the rotated halves of q and k; transformers does not."""
    rows, columns = values.shape
    return values.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _transformers_name(name: str) -> str:
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}  # fmt: skip
    if name in top:
        return top[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{HF_NAMES[part]}.{kind}"
