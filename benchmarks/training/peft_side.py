"""transformers + PEFT on the same weights, dequantised: what its Trainer does in a step, without its overhead.

Defaults are kept: sdpa attention, adapters in float32 (`autocast_adapter_dtype`), no gradient checkpointing, fused
AdamW, gradients clipped at 1, loss divided by the number of supervised tokens, batches padded to their longest
document. Like the Trainer, it switches the KV cache off.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from nomoat.tune.config import TARGET_MODULES
from nomoat.tune.tokenise import Example

from .sides import LEARNING_RATE, LORA_ALPHA, MAX_GRAD_NORM, PEFT_VARIANTS, R, Timing

# The oracle of the parity tests gives both sides the very same weights.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "tune"))
from oracle import transformers_model

__all__ = ["PeftSide"]


class PeftSide:
    """One of `PEFT_VARIANTS`."""

    def __init__(self, model: Path, variant: str) -> None:
        self.label, self.precision = PEFT_VARIANTS[variant], variant[:4]
        self._autocast = variant.endswith("autocast")
        network = transformers_model(model).to(torch.float32 if variant == "fp32" else torch.bfloat16)
        if network.config._attn_implementation != "sdpa":
            raise RuntimeError(f"transformers chose {network.config._attn_implementation}, not sdpa")
        network.config.use_cache = False
        config = LoraConfig(r=R, lora_alpha=LORA_ALPHA, target_modules=list(TARGET_MODULES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that is going
            self._model = get_peft_model(network, config).train()
        self._adapters = [p for p in self._model.parameters() if p.requires_grad]
        if {p.dtype for p in self._adapters} != {torch.float32}:
            raise RuntimeError("PEFT did not keep its adapters in float32")
        self._optimiser = torch.optim.AdamW(self._adapters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
        self._collate = DataCollatorForSeq2Seq(_padding_tokenizer())

    def loss(self, batch: Sequence[Example]) -> float:
        """Mean loss of the supervised tokens in nats."""
        with torch.no_grad():
            return float(self._forward(batch))

    def train(self, batches: Sequence[Sequence[Example]]) -> Timing:
        """One optimiser step for each batch."""
        started = time.perf_counter()
        for batch in batches:
            self._forward(batch).backward()
            torch.nn.utils.clip_grad_norm_(self._adapters, MAX_GRAD_NORM)
            self._optimiser.step()
            self._optimiser.zero_grad()
        seconds = time.perf_counter() - started
        return Timing(sum(len(example.tokens) for batch in batches for example in batch), seconds)

    def _forward(self, batch: Sequence[Example]) -> torch.Tensor:
        inputs = self._collate([_features(example) for example in batch])
        supervised = int((inputs["labels"] != -100).sum())
        with torch.autocast("cpu", torch.bfloat16, enabled=self._autocast):
            loss: torch.Tensor = self._model(**inputs, num_items_in_batch=supervised).loss
        return loss


def _features(example: Example) -> dict[str, Any]:
    tokens = example.tokens.tolist()
    labels = [token if seen else -100 for token, seen in zip(tokens, example.supervised, strict=True)]
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}


def _padding_tokenizer() -> PreTrainedTokenizerFast:
    """The collator only pads with it; which id it pads with does not matter, for the mask hides it."""
    empty = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=empty, pad_token="<pad>")
