"""`adapter_config.json` of PEFT: what nomoat writes there, and the scales that it reads from there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.formats.adapter import LoraAdapter

__all__ = ["CONFIG_NAME", "PeftScales", "config_of", "read_scales"]

CONFIG_NAME = "adapter_config.json"
_AGAIN = "train or download the adapter again"
_PLAIN = "llama.cpp runs plain LoRA only: merge the adapter into its model, or train a plain one"
# Options that change the mathematics beyond `W x + s B A x`; any value but these is refused.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
}


@dataclass(frozen=True)
class PeftScales:
    """Rank and scale of each module, after PEFT's rules for patterns and rsLoRA."""

    r: int
    lora_alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def rank(self, module: str) -> int:
        """The rank of `model.layers.0.self_attn.q_proj`."""
        return self.rank_pattern.get(_pattern_for(self.rank_pattern, module), self.r)

    def scale(self, module: str) -> float:
        """`alpha / r`, or `alpha / sqrt(r)` for rsLoRA."""
        alpha = self.alpha_pattern.get(_pattern_for(self.alpha_pattern, module), self.lora_alpha)
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def config_of(adapter: LoraAdapter, modules: list[str]) -> dict[str, Any]:
    """The configuration with which PEFT loads `adapter`, whose HF module names are `modules`."""
    targets, layers = _targets(modules)
    alpha = adapter.lora_alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(adapter.details.get("base_model_name_or_path", "")),
        "r": adapter.r,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else float(alpha),
        "target_modules": targets,
        "layers_to_transform": layers,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def read_scales(path: Path) -> PeftScales:
    """Read and check `adapter_config.json`. Raises `NotFoundError` or `BadFileError`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file, so this is no PEFT adapter",
                            "name the folder that holds adapter_config.json") from error  # fmt: skip
    except ValueError as error:
        raise BadFileError(path, "", f"is not JSON ({error})", _AGAIN) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else config
        raise BadFileError(path, "peft_type", f"is {found!r}, not 'LORA'", _PLAIN)
    for key, neutral in _NEUTRAL.items():
        if config.get(key) not in neutral:
            raise BadFileError(path, key, f"{config[key]!r} is not supported", _PLAIN)
    r, alpha = _positive(path, config, "r", int), _positive(path, config, "lora_alpha", int | float)
    ranks = _pattern(path, config, "rank_pattern", int)
    alphas = _pattern(path, config, "alpha_pattern", int | float)
    return PeftScales(int(r), float(alpha), bool(config.get("use_rslora")), ranks, alphas)


def _targets(modules: list[str]) -> tuple[list[str], list[int] | None]:
    """`(target_modules, layers_to_transform)`: short names where every layer has the same modules."""
    layers: dict[str, set[int]] = {}
    for module in modules:
        match = re.match(r"model\.layers\.(\d+)\.", module)
        layers.setdefault(module.rsplit(".", 1)[-1], set()).add(int(match[1]) if match else -1)
    same = {frozenset(found) for found in layers.values()}
    if len(same) != 1 or -1 in next(iter(same)):
        return sorted(modules), None
    numbers = sorted(next(iter(same)))
    return sorted(layers), None if numbers == list(range(len(numbers))) else numbers


def _pattern_for(patterns: Mapping[str, Any], module: str) -> str:
    for key in patterns:
        if re.match(rf"(.*\.)?({key})$", module):
            return key
    return module


def _positive(path: Path, config: Mapping[str, Any], key: str, kind: Any) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < 1e6:
        raise BadFileError(path, key, f"{value!r} is no positive number", _AGAIN)
    return float(value)


def _pattern(path: Path, config: Mapping[str, Any], key: str, kind: Any) -> dict[str, Any]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise BadFileError(path, key, f"{patterns!r} is no table of patterns", _AGAIN)
    for pattern in patterns:
        _positive(path, patterns, pattern, kind)
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadFileError(path, key, f"{pattern!r} is no pattern ({error})", _AGAIN) from error
    return patterns
