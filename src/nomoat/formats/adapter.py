"""A LoRA adapter in memory, in GGUF's names and row order. Its files: `peft_folder`, `gguf_lora`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import BadFileError, BaseMismatchError
from nomoat.formats.gguf_file import GGUFFile

__all__ = ["BASE_DIGEST_KEY", "LoraAdapter", "LoraPair", "check_against_base", "head_counts", "uniform"]

BASE_DIGEST_KEY = "nomoat.base.digest"
"""By this key an adapter's files, and the bundles that hold it, name the file that it was trained on."""

LoraPair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""`(A, B)`: A `(r, in)`, B `(out, r)`."""

_OTHER_BASE = "name the base model that it was trained on, or train it again on this one"


@dataclass(frozen=True)
class LoraAdapter:
    """`W x + lora_alpha / r * B A x` for every weight in `modules`.

    `modules` maps a GGUF weight name (`blk.0.attn_q.weight`) to its pair, both float32 and all of rank `r`;
    rows of q and k stay in GGUF order. `n_head` and `n_head_kv` are 0 where unknown (a foreign GGUF adapter).
    `base_digest` is empty where the file does not name its base.
    """

    base_digest: str
    architecture: str
    r: int
    lora_alpha: float
    modules: dict[str, LoraPair] = field(repr=False)
    n_head: int
    n_head_kv: int
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """The factor before `B A x`."""
        return self.lora_alpha / self.r

    def check_base(self, digests: Collection[str], base_name: str) -> None:
        """Raise `BaseMismatchError` unless the adapter's base is one of `digests`, or is not recorded.

        `digests` are those of the loaded file and of the file it was requantised from.
        """
        if self.base_digest and self.base_digest not in digests:
            raise BaseMismatchError(
                f"the adapter was trained on {self.base_digest[:19]}..., not on {base_name}"
                f" ({next(iter(digests), '')[:19]}...)",
                f"{_OTHER_BASE}; `nomoat run --force-adapter` loads it all the same",
            )


def uniform(
    parts: Mapping[str, tuple[NDArray[Any], NDArray[Any], float]], lora_alpha: float
) -> tuple[int, float, dict[str, LoraPair]]:
    """Bring pairs of different ranks and scales to one rank and one scale.

    `parts` maps a name to `(A, B, scale)`. The rank becomes the largest one (smaller pairs are padded with
    zeros) and every other scale is folded into B. Returns `(r, lora_alpha, modules)`. One rank and one alpha
    are what llama.cpp, PEFT and the trainer all read alike.
    """
    r = max(a.shape[0] for a, _, _ in parts.values())
    lora_alpha = lora_alpha or float(r)
    modules: dict[str, LoraPair] = {}
    for name, (a, b, scale) in parts.items():
        factor = scale * r / lora_alpha
        missing = r - a.shape[0]
        a = np.pad(a.astype(np.float32), ((0, missing), (0, 0)))
        b = np.pad(b.astype(np.float32), ((0, 0), (0, missing)))
        modules[name] = (a, b if factor == 1 else b * np.float32(factor))
    return r, lora_alpha, modules


def check_against_base(modules: Mapping[str, tuple[Any, Any]], base: GGUFFile, path: Path) -> None:
    """Raise `BadFileError` for a pair whose shapes are no LoRA of the base's weight of that name."""
    for name, (a, b) in modules.items():
        weight = base.tensors.get(name)
        if weight is None:
            raise BadFileError(path, f"module {name!r}", f"{base.path.name} has no such weight", _OTHER_BASE)
        expected = (weight.shape[1:], weight.shape[:1]) if len(weight.shape) == 2 else None
        if expected != (b.shape[:1], a.shape[1:]):
            shape = " x ".join(map(str, weight.shape[::-1]))
            problem = f"B A is {b.shape[0]} x {a.shape[1]}, but the base's weight is {shape}"
            raise BadFileError(path, f"module {name!r}", problem, _OTHER_BASE)


def head_counts(base: GGUFFile) -> tuple[int, int]:
    """`(n_head, n_head_kv)` of a base whose layers are alike. Raises `BadFileError` for any other."""
    n_head = base.hyperparameter("attention.head_count")
    n_head_kv = base.hyperparameter("attention.head_count_kv", n_head)
    for count in (n_head, n_head_kv):
        if not isinstance(count, int) or count <= 0:
            problem = f"{count!r} heads: only models with the same number in every layer are known"
            raise BadFileError(base.path, f"key '{base.architecture}.attention.head_count'", problem,
                               "use the adapter in GGUF form")  # fmt: skip
    return n_head, n_head_kv
