"""From trained parameters to files: a PEFT folder and the same adapter as GGUF, and proof that they serve alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nomoat.base.errors import EngineError
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.peft_folder import write_peft
from nomoat.tune.network import Network
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example

__all__ = ["GGUF_NAME", "LogitsOracle", "Verification", "export_adapter", "verify_adapter"]

GGUF_NAME = "adapter.gguf"
_VERIFY_TOKENS = 256
# llama.cpp rounds activations to 8 bits for quantised weights, torch does not: about 0.001 nats of divergence on
# the bases tested. A wrong scale, a swapped A and B or a missed permutation cost 100 times as much, or, where little
# was learned, about as much as the adapter changes at all.
_MOST_DIVERGENCE = 0.05


class LogitsOracle(Protocol):
    """Another engine's logits (T, V) float32 for `tokens`, with an adapter file or without."""

    def __call__(self, tokens: list[int], adapter: Path | None) -> np.ndarray: ...


@dataclass(frozen=True)
class Verification:
    """The trainer against llama.cpp on held-out tokens: mean KL divergence in nats, share of equal top tokens.

    `base_divergence` is the same without the adapter: what the two engines' arithmetic alone makes of it.
    """

    tokens: int
    divergence: float
    base_divergence: float
    same_top: float

    def as_json(self) -> dict[str, Any]:
        """The figures under their names."""
        return asdict(self)


def export_adapter(network: Network, base_digest: str, details: dict[str, Any], folder: Path) -> list[str]:
    """Write the adapter of `network` into `folder` as PEFT files and as `adapter.gguf`; returns their names."""
    parameters, heads = network.parameters, network.architecture.heads
    modules = {
        module.name: (
            parameters.a(module, parameters.values).numpy().copy(),
            parameters.b(module, parameters.values).numpy().copy(),
        )
        for module in parameters.modules
    }
    adapter = LoraAdapter(
        base_digest, network.architecture.name, parameters.r, parameters.lora_alpha, modules,
        heads.num_heads, heads.num_kv_heads, details,
    )  # fmt: skip
    write_peft(adapter, folder)
    write_gguf_lora(adapter, folder / GGUF_NAME)
    return ["adapter_model.safetensors", "adapter_config.json", GGUF_NAME]


def verify_adapter(
    network: Network, examples: Sequence[Example], adapter: Path, oracle: LogitsOracle
) -> Verification:
    """Compare the trainer with the engine that will serve. Raises `EngineError` where they disagree."""
    tokens = _some_tokens(examples)
    ours, theirs = _log_probabilities(network, tokens), _normalised(oracle(tokens, adapter))
    network.without_adapters(True)
    base_ours, base_theirs = _log_probabilities(network, tokens), _normalised(oracle(tokens, None))
    network.without_adapters(False)
    result = Verification(
        tokens=len(tokens),
        divergence=_divergence(theirs, ours),
        base_divergence=_divergence(base_theirs, base_ours),
        same_top=float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
    )
    effect = _divergence(ours, base_ours)
    if not result.divergence < 3 * result.base_divergence + min(_MOST_DIVERGENCE, effect / 4):
        raise EngineError(
            f"{adapter}: llama.cpp with this file differs from the trained model "
            f"(divergence {result.divergence:.3f} nats, base alone {result.base_divergence:.3f})",
            "this is a fault of nomoat: the checkpoint is kept; please report it with `nomoat show` of the base",
        )
    return result


def _some_tokens(examples: Sequence[Example]) -> list[int]:
    """One held-out document, the longest up to a limit: enough context to tell a mistake from noise."""
    longest = max(examples, key=lambda example: min(len(example.tokens), _VERIFY_TOKENS))
    return [int(token) for token in longest.tokens[:_VERIFY_TOKENS]]


def _log_probabilities(network: Network, tokens: list[int]) -> torch.Tensor:
    mask = np.zeros(len(tokens), dtype=np.bool_)
    batch = pack([Example(np.asarray(tokens, np.int32), mask, "", 0)])
    return torch.log_softmax(network.logits(batch), -1)


def _normalised(logits: np.ndarray) -> torch.Tensor:
    return torch.log_softmax(torch.from_numpy(np.ascontiguousarray(logits, np.float32)), -1)


def _divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """Mean KL(p || q) over rows of log-probabilities, in nats."""
    return float((p.exp() * (p - q)).sum(-1).mean())
