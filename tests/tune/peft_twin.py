"""The same base and adapter in transformers and PEFT, float32: the oracle of losses and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import oracle
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.lora import AdapterParameters, Module
from nomoat.tune.tokenise import Example

__all__ = ["PeftTwin"]


class PeftTwin:
    """PEFT's LoRA on the dequantised weights of a GGUF file, holding the values of an `AdapterParameters`."""

    def __init__(self, path: Path, target_modules: Sequence[str], parameters: AdapterParameters) -> None:
        file = read_gguf(path)
        self._interleaved = file.architecture == "llama"
        self._heads = {"attn_q": file.hyperparameter("attention.head_count"),
                       "attn_k": file.hyperparameter("attention.head_count_kv")}  # fmt: skip
        config = LoraConfig(
            r=parameters.r, lora_alpha=parameters.lora_alpha, target_modules=list(target_modules)
        )
        self._model: Any = get_peft_model(oracle.transformers_model(path), config)
        self._layers = dict(self._model.named_modules())
        self._parameters = parameters
        with torch.no_grad():
            for module in parameters.modules:
                a, b = self._pair(module)
                a.copy_(parameters.a(module, parameters.values))
                b.copy_(self._peft_rows(module, parameters.b(module, parameters.values)))

    def losses(self, examples: Sequence[Example]) -> torch.Tensor:
        """Losses of the supervised tokens, document by document, each document alone."""
        found = []
        for example in examples:
            tokens = torch.from_numpy(example.tokens).long()
            logits = self._model(input_ids=tokens[None]).logits[0]
            mask = torch.from_numpy(example.supervised[1:])
            found.append(F.cross_entropy(logits[:-1][mask], tokens[1:][mask], reduction="none"))
        return torch.cat(found)

    def gradients(self, examples: Sequence[Example], scale: float) -> dict[str, torch.Tensor]:
        """Gradients of `scale * sum(losses)` by name, such as `blk.0.attn_q.weight.A`, in PEFT's order of rows."""
        self._model.zero_grad()
        (self.losses(examples).sum() * scale).backward()
        found = {}
        for module in self._parameters.modules:
            a, b = self._pair(module)
            found |= {f"{module.name}.A": a.grad, f"{module.name}.B": b.grad}
        return found

    def trained(self, of: torch.Tensor) -> dict[str, torch.Tensor]:
        """The trainer's flat vector `of` (values or gradients) under the names and in the order of `gradients`."""
        parameters, found = self._parameters, {}
        for module in parameters.modules:
            found[f"{module.name}.A"] = parameters.a(module, of)
            found[f"{module.name}.B"] = self._peft_rows(module, parameters.b(module, of))
        return found

    def _pair(self, module: Module) -> tuple[torch.Tensor, torch.Tensor]:
        _, index, part, _ = module.name.split(".")
        layer = self._layers[f"base_model.model.model.layers.{index}.{oracle.HF_NAMES[part]}"]
        return layer.lora_A["default"].weight, layer.lora_B["default"].weight

    def _peft_rows(self, module: Module, b: torch.Tensor) -> torch.Tensor:
        part = module.name.split(".")[2]
        return oracle.unpermuted(b, self._heads[part]) if self._interleaved and part in self._heads else b
