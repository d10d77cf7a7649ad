"""A LoRA adapter as a PEFT folder: `adapter_model.safetensors` and `adapter_config.json`. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.files import atomic_write, atomic_write_json
from nomoat.formats.adapter import BASE_DIGEST_KEY, LoraAdapter, check_against_base, head_counts, uniform
from nomoat.formats.gguf_file import GGUFFile
from nomoat.formats.module_names import (
    PEFT_ARCHITECTURES,
    gguf_name,
    hf_name,
    permute_rows,
    permuted_heads,
    unpermute_rows,
)
from nomoat.formats.peft_config import CONFIG_NAME, PeftScales, config_of, read_scales
from nomoat.formats.safetensors_file import read_safetensors, safetensors_bytes

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "read_peft", "write_peft"]

WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")
# Kept in the header of the safetensors file: PEFT warns of keys that it does not know in its own config.
_DETAILS = "nomoat.details"
_TRAIN_PLAIN = "llama.cpp runs plain LoRA on linear layers only: train or merge it that way"


def write_peft(adapter: LoraAdapter, folder: Path) -> None:
    """Write `adapter` so that PEFT loads it; each file in one step, the config last.

    Raises `InputError` for a weight or an architecture that PEFT has no name for here.
    """
    _check_architecture(adapter.architecture)
    tensors: dict[str, NDArray[np.float32]] = {}
    modules: list[str] = []
    for name, (a, b) in adapter.modules.items():
        module = hf_name(name)
        if module is None:
            raise InputError(f"PEFT has no module for {name!r}", "train the linear layers of the blocks only")
        modules.append(module)
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = _to_hf_rows(adapter, name, b)
    header = {
        "format": "pt",
        BASE_DIGEST_KEY: adapter.base_digest,
        _DETAILS: json.dumps(adapter.details, ensure_ascii=False),
    }
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / WEIGHTS_NAME, safetensors_bytes(tensors, header))
    atomic_write_json(folder / CONFIG_NAME, config_of(adapter, modules))


def read_peft(folder: Path, base: GGUFFile) -> LoraAdapter:
    """Read a PEFT LoRA folder for `base`; rsLoRA and rank/alpha patterns are folded into B.

    Raises `NotFoundError` where a file is missing and `BadFileError`, naming file and tensor, where it is
    damaged, does not fit the base, or is another kind of adapter than llama.cpp can run.
    """
    _check_architecture(base.architecture)
    path = folder / WEIGHTS_NAME
    scales = read_scales(folder / CONFIG_NAME)
    tensors, header = read_safetensors(path)
    pairs = _pairs(path, tensors)
    check_against_base({name: pair for name, (_, pair) in pairs.items()}, base, path)
    n_head, n_head_kv = head_counts(base)
    parts = {}
    for name, (module, (a, b)) in pairs.items():
        heads = permuted_heads(base.architecture, name, n_head, n_head_kv)
        if heads and b.shape[0] % (2 * heads):
            problem = f"{b.shape[0]} rows do not divide into {heads} heads"
            raise BadFileError(path, f"module {module!r}", problem, "use the base model's original file")
        rows = permute_rows(b, heads) if heads else b
        parts[name] = (a, rows, _scale(path, scales, module, a.shape[0]))
    r, lora_alpha, modules = uniform(parts, scales.lora_alpha)
    digest, details = header.get(BASE_DIGEST_KEY, ""), _details(header)
    return LoraAdapter(digest, base.architecture, r, lora_alpha, modules, n_head, n_head_kv, details)


def _pairs(
    path: Path, tensors: Mapping[str, NDArray[np.float32]]
) -> dict[str, tuple[str, tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """GGUF name -> (module, (A, B)), every tensor of the file used exactly once."""
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, values in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or gguf_name(match["module"]) is None:
            problem = "is no LoRA matrix of a layer that llama.cpp can adapt"
            raise BadFileError(path, f"tensor {key!r}", problem, _TRAIN_PLAIN)
        found.setdefault(match["module"], {})[match["part"]] = values
    if not found:
        raise BadFileError(path, "", "holds no tensors", "train or download the adapter again")
    pairs = {}
    for module, parts in found.items():
        a, b = parts.get("A"), parts.get("B")
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            shapes = " and ".join(f"{part} {values.shape}" for part, values in sorted(parts.items()))
            problem = f"A (r, in) and B (out, r) are needed, the file has {shapes}"
            raise BadFileError(path, f"module {module!r}", problem, "train or download the adapter again")
        pairs[gguf_name(module) or module] = (module, (a, b))
    return pairs


def _scale(path: Path, scales: PeftScales, module: str, r: int) -> float:
    expected = scales.rank(module)
    if r != expected:
        problem = f"has rank {r}, but {CONFIG_NAME} says {expected}"
        raise BadFileError(path, f"module {module!r}", problem, "keep both files of one adapter together")
    return scales.scale(module)


def _to_hf_rows(adapter: LoraAdapter, name: str, b: NDArray[np.float32]) -> NDArray[np.float32]:
    if not PEFT_ARCHITECTURES[adapter.architecture] or name.split(".")[-2] not in ("attn_q", "attn_k"):
        return np.ascontiguousarray(b, np.float32)
    heads = permuted_heads(adapter.architecture, name, adapter.n_head, adapter.n_head_kv)
    if heads == 0:
        raise InputError("the adapter does not say how many attention heads its base has",
                         "name the base model when reading the adapter")  # fmt: skip
    return np.ascontiguousarray(unpermute_rows(b, heads), np.float32)


def _check_architecture(architecture: str) -> None:
    if architecture not in PEFT_ARCHITECTURES:
        known = ", ".join(PEFT_ARCHITECTURES)
        raise InputError(f"PEFT folders of architecture {architecture!r} are not known (known: {known})",
                         "use the adapter in GGUF form")  # fmt: skip


def _details(header: Mapping[str, str]) -> dict[str, Any]:
    try:
        details = json.loads(header.get(_DETAILS, "{}"))
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}
