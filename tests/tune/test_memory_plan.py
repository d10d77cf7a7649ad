"""How a run is fitted into memory: the fastest way that fits, or a refusal with figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import NotEnoughMemoryError
from nomoat.tune.architecture import Architecture
from nomoat.tune.attention import HeadShape
from nomoat.tune.memory import MemoryPlan, plan_memory

GIB, MIB = 2**30, 2**20
SMOLLM2 = Architecture(
    name="llama", hidden_size=576, num_hidden_layers=30, intermediate_size=1536, vocab_size=49152,
    heads=HeadShape(9, 3, 64), rms_norm_eps=1e-5, rope_theta=1e5, rotary_dim=64, context_length=8192,
    tied_embeddings=True,
)  # fmt: skip
QWEN_1_5B = Architecture(
    name="qwen2", hidden_size=1536, num_hidden_layers=28, intermediate_size=8960, vocab_size=151936,
    heads=HeadShape(12, 2, 128), rms_norm_eps=1e-6, rope_theta=1e6, rotary_dim=128, context_length=32768,
    tied_embeddings=True,
)  # fmt: skip
QWEN_7B = replace(
    QWEN_1_5B, hidden_size=3584, intermediate_size=18944, vocab_size=152064, heads=HeadShape(28, 4, 128),
    tied_embeddings=False,
)  # fmt: skip
ADAPTERS = 5_000_000


def _plan(
    architecture: Architecture, limit_bytes: int | None, *, file_bytes: int = 100 * MIB,
    dtype: torch.dtype = torch.bfloat16, max_length: int = 1024,
) -> MemoryPlan:  # fmt: skip
    return plan_memory(architecture, file_bytes, ADAPTERS, dtype, 2048, max_length, limit_bytes)


def test_a_small_model_keeps_its_weights_unpacked_and_computes_nothing_twice() -> None:
    plan = _plan(SMOLLM2, 4 * GIB)
    assert (plan.keep, plan.recompute, plan.micro_tokens) == (True, False, 2048)


def test_a_1_5b_model_keeps_its_weights_packed_and_stays_below_6_gb_for_2048_tokens() -> None:
    plan = _plan(QWEN_1_5B, 6 * 10**9, file_bytes=1_120 * 10**6)
    assert not plan.keep
    assert plan.micro_tokens == 2048
    assert plan.peak_bytes < 6 * 10**9


def test_less_memory_first_means_smaller_portions_then_packed_weights_then_computing_again() -> None:
    limits = [limit * 50 * MIB for limit in range(60, 18, -1)]
    plans = list(dict.fromkeys(_plan(SMOLLM2, limit) for limit in limits))
    ways = [(plan.keep, plan.recompute, plan.micro_tokens) for plan in plans]
    assert ways[0] == (True, False, 2048)
    assert ways[1] == (True, False, 1024)
    assert (False, False, 1024) in ways
    assert ways[-1][:2] == (False, True)
    assert [plan.recompute for plan in plans] == sorted(plan.recompute for plan in plans)


@given(
    st.sampled_from([SMOLLM2, QWEN_1_5B, QWEN_7B]),
    st.integers(1, 200),
    st.sampled_from([64, 512, 1024, 4096]),
)
def test_a_plan_is_never_above_the_limit(architecture: Architecture, tenths: int, max_length: int) -> None:
    limit = tenths * GIB // 10
    try:
        plan = _plan(architecture, limit, max_length=max_length)
    except NotEnoughMemoryError:
        return
    assert plan.peak_bytes <= limit
    assert plan.micro_tokens >= max_length, "the longest document must fit"


def test_float32_takes_more_than_bf16() -> None:
    wide, narrow = (_plan(SMOLLM2, 9 * GIB, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert wide.peak_bytes > 1.5 * narrow.peak_bytes - 450 * MIB


def test_what_does_not_fit_is_refused_with_figures_and_a_remedy() -> None:
    with pytest.raises(
        NotEnoughMemoryError, match=r"needs about \d+\.\d GiB, but 1\.0 GiB may be used"
    ) as error:
        _plan(QWEN_7B, GIB, file_bytes=4_700 * MIB)
    assert "--memory" in error.value.hint


def test_without_a_limit_the_machine_itself_decides() -> None:
    plan = _plan(SMOLLM2, None)
    assert plan.peak_bytes <= 5 * GIB, "a laptop has other work to do"
