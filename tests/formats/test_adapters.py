"""One adapter in three programs: nomoat, PEFT and llama.cpp give the same logits."""

from __future__ import annotations

import ctypes
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from nomoat.base.errors import BadFileError, BaseMismatchError, InputError, NotFoundError
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.llama_log import silence_log
from nomoat.formats.module_names import gguf_name, hf_name, permute_rows, unpermute_rows
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME, read_peft, write_peft

_HIDDEN, _LAYERS, _HEADS, _KV_HEADS, _VOCAB, _INNER = 64, 2, 4, 2, 32, 96
_TOKENS = [1, 5, 9, 30, 2, 7, 7, 11]
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def _converter_permute(weights: NDArray[Any], n_head: int) -> NDArray[Any]:
    """The rule as llama.cpp's `conversion/llama.py` writes it."""
    return (
        weights.reshape(n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def _network(architecture: str) -> PreTrainedModel:
    torch.manual_seed(3)
    kind, config = {
        "llama": (LlamaForCausalLM, LlamaConfig),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    }[architecture]
    network = kind(
        config(
            hidden_size=_HIDDEN, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
            num_key_value_heads=_KV_HEADS, vocab_size=_VOCAB, intermediate_size=_INNER,
            max_position_embeddings=64, initializer_range=0.15, tie_word_embeddings=False,
        )
    )  # fmt: skip
    return network.eval()


def _gguf_tensor(architecture: str, name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    module, _, kind = name.rpartition(".")
    if module in _OUTER:
        return f"{_OUTER[module]}.weight", array
    norm = module.rsplit(".", 1)[-1]
    if norm in _NORMS:
        return f"blk.{module.split('.')[2]}.{_NORMS[norm]}.weight", array
    found = gguf_name(module)
    assert found is not None
    heads = {"q_proj": _HEADS, "k_proj": _KV_HEADS}.get(norm)
    if architecture == "llama" and heads:
        array = _converter_permute(array, heads)
    return found.replace(".weight", f".{kind}"), array


def _write_base(path: Path, architecture: str, network: PreTrainedModel) -> GGUFFile:
    sizes = {
        "context_length": 64, "embedding_length": _HIDDEN, "block_count": _LAYERS, "vocab_size": _VOCAB,
        "feed_forward_length": _INNER, "attention.head_count": _HEADS, "attention.head_count_kv": _KV_HEADS,
        "rope.dimension_count": _HIDDEN // _HEADS, "rope.freq_base": 10000.0,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    metadata: dict[str, Any] = {"general.architecture": architecture, "tokenizer.ggml.model": "none"}
    metadata |= {f"{architecture}.{name}": value for name, value in sizes.items()}
    state = {name: values.float().numpy() for name, values in network.state_dict().items()}
    write_gguf(path, metadata, dict(_gguf_tensor(architecture, *entry) for entry in state.items()))
    return read_gguf(path)


class Trio:
    """The same random base as a transformers network and as a GGUF file, with a random adapter."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self.architecture, self.folder = architecture, folder
        self.network = _network(architecture)
        self.base = _write_base(folder / "base.gguf", architecture, self.network)
        rng = np.random.default_rng(5)
        modules = {}
        for name, weight in self.base.tensors.items():
            if hf_name(name) and name != "output.weight":
                inner, outer = weight.shape
                a = rng.normal(size=(8, inner), scale=0.2).astype(np.float32)
                modules[name] = (a, rng.normal(size=(outer, 8), scale=0.2).astype(np.float32))
        self.adapter = LoraAdapter(
            "sha256:base", architecture, 8, 12.0, modules, _HEADS, _KV_HEADS, {"note": "ä"}
        )

    def llama_cpp_logits(self, adapter: Path | None = None) -> NDArray[np.float32]:
        silence_log()
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        model = llama_cpp.llama_model_load_from_file(str(self.base.path).encode(), options)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_threads, settings.n_threads_batch = 64, 1, 1
        settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = llama_cpp.llama_init_from_model(model, settings)
        if adapter is not None:
            handle = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
            assert handle, "llama.cpp refuses the adapter"
            handles = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(handle)
            scales = (ctypes.c_float * 1)(1.0)
            assert llama_cpp.llama_set_adapters_lora(context, handles, 1, scales) == 0
        rows = []
        for position, token in enumerate(_TOKENS):
            batch = llama_cpp.llama_batch_get_one((llama_cpp.llama_token * 1)(token), 1)
            assert llama_cpp.llama_decode(context, batch) == 0, position
            rows.append(np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (_VOCAB,)).copy())
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
        return np.stack(rows)

    def peft_logits(self, folder: Path) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT warns of missing, unexpected and unknown keys
            tuned = PeftModel.from_pretrained(_network(self.architecture), folder)
        return _logits(tuned)


def _logits(network: Any) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(network(torch.tensor([_TOKENS])).logits[0].numpy())


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trio:
    return Trio(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Trio:
    return Trio("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(llama: Trio, tmp_path: Path) -> Path:
    write_peft(llama.adapter, tmp_path)
    return tmp_path


def _same(one: LoraAdapter, other: LoraAdapter) -> bool:
    plain = [
        (a.base_digest, a.architecture, a.r, a.lora_alpha, a.n_head, a.n_head_kv, a.details, set(a.modules))
        for a in (one, other)
    ]
    arrays = all(
        np.array_equal(mine, theirs)
        for name, pair in one.modules.items()
        for mine, theirs in zip(pair, other.modules[name], strict=True)
    )
    return plain[0] == plain[1] and arrays


def test_peft_and_llama_cpp_agree_on_a_written_adapter(trio: Trio, tmp_path: Path) -> None:
    write_peft(trio.adapter, tmp_path / "peft")
    write_gguf_lora(trio.adapter, tmp_path / "adapter.gguf")
    plain, tuned = _logits(trio.network), trio.peft_logits(tmp_path / "peft")
    assert np.abs(tuned - plain).max() > 0.1, "the adapter must matter"
    assert np.allclose(trio.llama_cpp_logits(), plain, atol=1e-4)
    assert np.allclose(trio.llama_cpp_logits(tmp_path / "adapter.gguf"), tuned, atol=1e-4)


def test_both_forms_come_back_as_they_were_written(trio: Trio, tmp_path: Path) -> None:
    write_peft(trio.adapter, tmp_path)
    write_gguf_lora(trio.adapter, tmp_path / "adapter.gguf")
    assert _same(read_peft(tmp_path, trio.base), trio.adapter)
    assert _same(read_gguf_lora(tmp_path / "adapter.gguf"), trio.adapter)
    assert _same(read_gguf_lora(tmp_path / "adapter.gguf", trio.base), trio.adapter)


def test_the_reference_reader_reads_a_gguf_adapter(llama: Trio, tmp_path: Path) -> None:
    write_gguf_lora(llama.adapter, tmp_path / "adapter.gguf")
    reader = gguf.GGUFReader(tmp_path / "adapter.gguf")
    assert reader.fields["adapter.lora.alpha"].contents() == 12.0
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    a, b = llama.adapter.modules["blk.1.attn_k.weight"]
    assert np.array_equal(tensors["blk.1.attn_k.weight.lora_a"], a)
    assert np.array_equal(tensors["blk.1.attn_k.weight.lora_b"], b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_peft_s_own_ranks_alphas_and_rslora_are_folded_in(
    trio: Trio, tmp_path: Path, use_rslora: bool, dtype: torch.dtype
) -> None:
    config = LoraConfig(
        r=4, lora_alpha=10, target_modules=["q_proj", "k_proj", "down_proj"], task_type="CAUSAL_LM",
        rank_pattern={"layers.1.self_attn.q_proj": 6}, alpha_pattern={r"layers\.0\..*": 3},
        use_rslora=use_rslora, init_lora_weights=False,
    )  # fmt: skip
    torch.manual_seed(0)
    tuned = get_peft_model(_network(trio.architecture), config)
    for name, values in tuned.named_parameters():
        if "lora_" in name:
            values.data = values.data.to(dtype)
    tuned.save_pretrained(tmp_path / "peft")
    expected = _logits(PeftModel.from_pretrained(_network(trio.architecture), tmp_path / "peft"))
    adapter = read_peft(tmp_path / "peft", trio.base)
    assert (adapter.r, adapter.base_digest) == (6, "")
    write_gguf_lora(adapter, tmp_path / "adapter.gguf")
    assert np.allclose(trio.llama_cpp_logits(tmp_path / "adapter.gguf"), expected, atol=1e-4)
    write_peft(adapter, tmp_path / "again")
    assert np.allclose(trio.peft_logits(tmp_path / "again"), expected, atol=2e-5)


def test_adapters_on_some_layers_or_modules_only_load_in_peft(llama: Trio, tmp_path: Path) -> None:
    full = llama.adapter
    upper = {name: pair for name, pair in full.modules.items() if name.startswith("blk.1.")}
    mixed = {name: full.modules[name] for name in ("blk.0.attn_q.weight", "blk.1.ffn_up.weight")}
    for index, modules in enumerate((upper, mixed)):
        part = LoraAdapter("", "llama", 8, 12.5, modules, _HEADS, _KV_HEADS)
        write_peft(part, tmp_path / str(index))
        write_gguf_lora(part, tmp_path / "adapter.gguf")
        tuned = llama.peft_logits(tmp_path / str(index))
        assert np.allclose(llama.llama_cpp_logits(tmp_path / "adapter.gguf"), tuned, atol=1e-4)


def test_an_adapter_of_llama_cpp_s_converter_is_read_in_each_of_its_types(
    llama: Trio, tmp_path: Path
) -> None:
    a, b = llama.adapter.modules["blk.0.attn_v.weight"]
    for kind in ("F32", "F16", "BF16", "Q8_0"):
        writer = gguf.GGUFWriter(tmp_path / f"{kind}.gguf", "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 12.0)
        wide = np.tile(b, (1, 4))  # rank 32, so that rows divide into blocks
        pair = {"lora_a": np.tile(a, (4, 1)), "lora_b": wide}
        for part, values in pair.items():
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
            raw_dtype = gguf.GGMLQuantizationType[kind] if kind not in ("F32", "F16") else None
            writer.add_tensor(f"blk.0.attn_v.weight.{part}", packed, raw_dtype=raw_dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        adapter = read_gguf_lora(tmp_path / f"{kind}.gguf", llama.base)
        assert (adapter.r, adapter.lora_alpha, adapter.n_head) == (32, 12.0, _HEADS)
        read = adapter.modules["blk.0.attn_v.weight"]
        for values, got in zip(pair.values(), read, strict=True):
            expected = gguf.quants.dequantize(
                gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]), gguf.GGMLQuantizationType[kind]
            )
            assert np.array_equal(got, expected)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
def test_row_orders_are_inverse_and_follow_the_converter(n_head: int, half: int, r: int) -> None:
    rows = np.arange(n_head * 2 * half * r).reshape(n_head * 2 * half, r)
    assert np.array_equal(permute_rows(rows, n_head), _converter_permute(rows, n_head))
    assert np.array_equal(unpermute_rows(permute_rows(rows, n_head), n_head), rows)
    assert np.array_equal(permute_rows(unpermute_rows(rows, n_head), n_head), rows)


def test_names_map_both_ways_and_strangers_to_nothing() -> None:
    for name in ("blk.0.attn_q.weight", "blk.12.ffn_down.weight", "output.weight"):
        module = hf_name(name)
        assert module is not None and gguf_name(module) == name
    assert gguf_name("language_model.model.layers.3.mlp.up_proj") == "blk.3.ffn_up.weight"
    assert hf_name("token_embd.weight") is None and gguf_name("model.embed_tokens") is None


def test_an_adapter_of_another_base_is_refused(llama: Trio, folder: Path, tmp_path: Path) -> None:
    llama.adapter.check_base(["sha256:other", "sha256:base"], "smollm2")
    with pytest.raises(BaseMismatchError, match="not on smollm2"):
        llama.adapter.check_base(["sha256:other"], "smollm2")
    wider = tmp_path / "wider.gguf"
    metadata = dict(llama.base.metadata)
    write_gguf(wider, metadata, {"blk.0.attn_q.weight": np.zeros((80, 80), np.float32)})
    with pytest.raises(BadFileError, match=r"64 x 64.*80 x 80|no such weight"):
        read_peft(folder, read_gguf(wider))


def test_damaged_weights_are_refused_with_file_and_place(llama: Trio, folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    content = path.read_bytes()
    for damaged in (b"", content[:5], content[:200], content[:-1], struct.pack("<Q", 1 << 60) + content[8:]):
        path.write_bytes(damaged)
        with pytest.raises(BadFileError, match=WEIGHTS_NAME) as caught:
            read_peft(folder, llama.base)
        assert caught.value.hint
    path.unlink()
    with pytest.raises(NotFoundError, match=WEIGHTS_NAME):
        read_peft(folder, llama.base)


def _edit(folder: Path, change: dict[str, NDArray[Any] | None]) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    for name, values in change.items():
        tensors.pop(name, None)
        if values is not None:
            tensors[name] = values
    save_file(tensors, folder / WEIGHTS_NAME)


_Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({_Q_A: None}, "A .r, in. and B .out, r. are needed"),
        ({_Q_A: np.zeros((8, 63), np.float32)}, "64 x 63, but the base's weight is 64 x 64"),
        ({_Q_A: np.full((8, 64), np.nan, np.float32)}, "no numbers"),
        ({_Q_A: np.zeros((8, 64), np.int32)}, "type I32"),
        ({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": np.zeros((8, 64), np.float32),
          "base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight": np.zeros((64, 8), np.float32)},
         "no such weight"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((8, 4), np.float32)}, "no LoRA"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(
    llama: Trio, folder: Path, change: dict[str, Any], expected: str
) -> None:
    _edit(folder, change)
    with pytest.raises(BadFileError, match=expected):
        read_peft(folder, llama.base)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 0}, "r"),
        ({"r": 4}, "says 4"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern"),
    ],
)
def test_configurations_that_change_the_mathematics_are_refused(
    llama: Trio, folder: Path, change: dict[str, Any], place: str
) -> None:
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps(config | change))
    with pytest.raises(BadFileError, match=place):
        read_peft(folder, llama.base)
    (folder / CONFIG_NAME).write_text("{")
    with pytest.raises(BadFileError, match="is not JSON"):
        read_peft(folder, llama.base)


def test_a_gguf_that_is_no_adapter_or_a_broken_one_is_refused(llama: Trio, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="this is no LoRA adapter"):
        read_gguf_lora(llama.base.path)
    metadata = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    lone = tmp_path / "lone.gguf"
    write_gguf(lone, metadata, {"blk.0.attn_q.weight.lora_a": np.zeros((8, 64), np.float32)})
    with pytest.raises(BadFileError, match=r"lora_b.*is missing"):
        read_gguf_lora(lone)
    stranger = tmp_path / "stranger.gguf"
    write_gguf(stranger, metadata, {"blk.0.attn_q.weight": np.zeros((8, 64), np.float32)})
    with pytest.raises(BadFileError, match=r"not the pairs"):
        read_gguf_lora(stranger)


def test_what_peft_cannot_hold_is_said_before_anything_is_written(llama: Trio, tmp_path: Path) -> None:
    pair = llama.adapter.modules["blk.0.attn_q.weight"]
    for adapter, expected in (
        (LoraAdapter("", "llama", 8, 8, {"token_embd.weight": pair}, 4, 2), "no module"),
        (LoraAdapter("", "mamba", 8, 8, {}, 4, 2), "architecture 'mamba'"),
        (LoraAdapter("", "llama", 8, 8, {"blk.0.attn_q.weight": pair}, 0, 0), "how many attention heads"),
    ):
        with pytest.raises(InputError, match=expected):
            write_peft(adapter, tmp_path / "none")
        assert not (tmp_path / "none").exists()
