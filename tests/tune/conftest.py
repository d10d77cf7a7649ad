"""What the trainer's tests share: kernels built once, and tiny models made once for each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import oracle
import pytest
from hypothesis import settings

from nomoat.tune.ops import EagerOps, FusedOps, Ops, load_ops

TinyModel = Callable[..., Path]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def kernel_cache(trainer_home: Path) -> Path:
    """A folder in which the fused kernels have been built, where a compiler is."""
    cache = trainer_home / "cache" / "kernels"
    load_ops(cache)
    return cache


@pytest.fixture(scope="session")
def fused(kernel_cache: Path) -> FusedOps:
    """The fused operations."""
    ops = load_ops(kernel_cache)
    if not isinstance(ops, FusedOps):
        pytest.skip("no compiler here to build the fused operations with")
    return ops


@pytest.fixture(params=["fused", "eager"])
def ops(request: pytest.FixtureRequest) -> Ops:
    """Both kinds of operations, one after the other."""
    if request.param == "eager":
        return EagerOps()
    chosen: Ops = request.getfixturevalue("fused")
    return chosen


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """`tiny_model("qwen2", "Q8_0", layers=3)`: the path of such a model, written at first use."""
    folder = tmp_path_factory.mktemp("models")

    def make(architecture: str, quantisation: str, **shape: int | bool) -> Path:
        parts = [architecture, quantisation, *(f"{name}{value}" for name, value in sorted(shape.items()))]
        path = folder / ("-".join(parts) + ".gguf")
        return path if path.exists() else oracle.tiny_gguf(path, architecture, quantisation, **shape)

    return make
