"""What was trained is what is served: by llama.cpp from adapter.gguf, by PEFT from its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from peft import PeftModel
from serving import LlamaCpp

from limits import files_of_at_most
from nomoat.base.errors import DiskFullError, EngineError
from nomoat.base.progress import Silent
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from nomoat.formats.peft_folder import read_peft
from nomoat.tune.architecture import LINEARS
from nomoat.tune.config import TuneConfig
from nomoat.tune.export import Verification, export_adapter, verify_adapter
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import FusedOps
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example
from nomoat.tune.trainer import Trainer

Train = Callable[..., Network]
DETAILS = {"base": "tiny"}


def _documents() -> list[Example]:
    documents = []
    for i in range(8):
        tokens = np.tile(np.arange(5 + i, dtype=np.int32) * 11 % 256, 20)[: 60 + 9 * i]
        documents.append(Example(tokens, np.ones(len(tokens), np.bool_), str(i), len(tokens)))
    return documents


@pytest.fixture(scope="module")
def train(
    tiny_model: Callable[..., Path], fused: FusedOps, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """`train("llama", "Q8_0", steps=8, dtype=...)`: a network whose adapter has learned something."""

    def made(
        architecture: str, quantisation: str, steps: int = 8, dtype: torch.dtype = torch.float32,
        targets: tuple[str, ...] = tuple(LINEARS),
    ) -> Network:  # fmt: skip
        file = read_gguf(tiny_model(architecture, quantisation))
        parameters = AdapterParameters(adapter_modules(file, list(targets)), 4, 8.0, dtype, 0)
        network = Network(file, parameters, fused, dtype, 256, keep=True, recompute=False)
        config = TuneConfig(max_steps=steps, batch_tokens=300, learning_rate=4e-3, r=4)
        trainer = Trainer(network, _documents(), config, 1000, tmp_path_factory.mktemp("run"), "run")
        trainer.state.total_steps = steps
        trainer.run(Silent(), lambda state: state.total_steps)
        return network

    return made


def _verify(network: Network, adapter: Path) -> Verification:
    return verify_adapter(network, _documents(), adapter, LlamaCpp(network.gguf.path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "quantisation"),
    [("llama", "Q8_0"), ("llama", "F16"), ("qwen2", "Q4_K"), ("qwen2", "Q8_0")],
)
def test_llama_cpp_serves_what_was_trained(
    architecture: str, quantisation: str, dtype: torch.dtype, train: Train, tmp_path: Path
) -> None:
    network = train(architecture, quantisation, dtype=dtype)
    export_adapter(network, "sha256:base", DETAILS, tmp_path)
    seen = _verify(network, tmp_path / "adapter.gguf")
    assert seen.divergence < 0.01
    assert seen.same_top > 0.9
    assert seen.tokens == max(len(document.tokens) for document in _documents())


def test_in_float32_llama_cpp_and_the_trainer_agree_to_the_last_digits(train: Train, tmp_path: Path) -> None:
    network = train("llama", "F32")
    export_adapter(network, "sha256:base", DETAILS, tmp_path)
    seen = _verify(network, tmp_path / "adapter.gguf")
    assert seen.divergence < 1e-6
    assert seen.same_top == 1.0


@pytest.mark.parametrize("targets", [tuple(LINEARS), ("q_proj", "k_proj"), ("down_proj",)], ids="+".join)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_peft_loads_the_folder_and_computes_the_trainers_logits(
    architecture: str, targets: tuple[str, ...], train: Train, tmp_path: Path
) -> None:
    network = train(architecture, "Q8_0", targets=targets)
    export_adapter(network, "sha256:base", DETAILS, tmp_path)
    base = oracle.transformers_model(network.gguf.path)
    document = _documents()[-1]
    with torch.no_grad():
        model = PeftModel.from_pretrained(base, str(tmp_path))
        theirs = model(input_ids=torch.from_numpy(document.tokens).long()[None]).logits[0]
    ours = network.logits(pack([document]))
    torch.testing.assert_close(torch.log_softmax(ours, -1), torch.log_softmax(theirs, -1), atol=5e-4, rtol=0)


def test_both_forms_hold_the_trained_values_base_and_details(train: Train, tmp_path: Path) -> None:
    network = train("llama", "Q8_0")
    names = export_adapter(network, "sha256:base", DETAILS, tmp_path)
    assert sorted(names) == sorted(entry.name for entry in tmp_path.iterdir())
    parameters = network.parameters
    for adapter in (read_gguf_lora(tmp_path / "adapter.gguf"), read_peft(tmp_path, network.gguf)):
        assert (adapter.base_digest, adapter.r, adapter.lora_alpha) == ("sha256:base", 4, 8.0)
        assert adapter.details == DETAILS
        for module in parameters.modules:
            a, b = adapter.modules[module.name]
            assert np.array_equal(a, parameters.a(module, parameters.values).numpy())
            assert np.array_equal(b, parameters.b(module, parameters.values).numpy())


# -- what must be refused ------------------------------------------------------------------------


def _four_times(adapter: LoraAdapter) -> LoraAdapter:
    return replace(adapter, lora_alpha=4 * adapter.lora_alpha)


def _without_effect(adapter: LoraAdapter) -> LoraAdapter:
    return replace(adapter, modules={name: (a, 0 * b) for name, (a, b) in adapter.modules.items()})


def _layers_swapped(adapter: LoraAdapter) -> LoraAdapter:
    def other(name: str) -> str:
        return name.replace("blk.0", "blk.x").replace("blk.1", "blk.0").replace("blk.x", "blk.1")

    return replace(adapter, modules={other(name): pair for name, pair in adapter.modules.items()})


def _a_and_b_swapped(adapter: LoraAdapter) -> LoraAdapter:
    """Where a weight is square, A and B can change places without any shape to tell."""
    square = {
        n: (b.T.copy(), a.T.copy()) for n, (a, b) in adapter.modules.items() if a.shape[1] == b.shape[0]
    }
    assert square
    return replace(adapter, modules=adapter.modules | square, lora_alpha=4 * adapter.lora_alpha)


def _rows_in_peft_order(adapter: LoraAdapter) -> LoraAdapter:
    """q and k as Hugging Face orders them: the mistake that GGUF's llama makes so easy."""
    modules = {}
    for name, (a, b) in adapter.modules.items():
        heads = 4 if "attn_q" in name else 2 if "attn_k" in name else 0
        rows = oracle.unpermuted(torch.from_numpy(b), heads).numpy() if heads else b
        modules[name] = (a, np.ascontiguousarray(rows))
    return replace(adapter, modules=modules)


@pytest.mark.parametrize(
    "spoil", [_four_times, _without_effect, _layers_swapped, _a_and_b_swapped, _rows_in_peft_order],
    ids=lambda spoil: spoil.__name__.strip("_"),
)  # fmt: skip
@pytest.mark.parametrize("steps", [1, 8])
def test_a_wrong_adapter_is_refused(
    spoil: Callable[[LoraAdapter], LoraAdapter], steps: int, train: Train, tmp_path: Path
) -> None:
    network = train("llama", "Q8_0", steps)
    export_adapter(network, "sha256:base", DETAILS, tmp_path)
    path = tmp_path / "adapter.gguf"
    write_gguf_lora(spoil(read_gguf_lora(path)), path)
    with pytest.raises(EngineError, match=r"adapter\.gguf.*differs") as error:
        _verify(network, path)
    assert "report" in error.value.hint


def test_verification_leaves_the_adapter_switched_on(train: Train, tmp_path: Path) -> None:
    network, batch = train("llama", "Q8_0"), pack(_documents()[:1])
    before = network.losses(batch)
    export_adapter(network, "sha256:base", DETAILS, tmp_path)
    _verify(network, tmp_path / "adapter.gguf")
    assert torch.equal(network.losses(batch), before)


def test_a_full_disk_leaves_no_half_adapter(train: Train, tmp_path: Path) -> None:
    network = train("llama", "Q8_0", 1)
    with files_of_at_most(50_000), pytest.raises(DiskFullError, match="adapter_model") as error:
        export_adapter(network, "sha256:base", DETAILS, tmp_path)
    assert "free some space" in error.value.hint
    assert list(tmp_path.iterdir()) == []
