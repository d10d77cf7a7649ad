"""Sampling options are refused where they mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from nomoat.base.errors import InputError
from nomoat.run.sampling import SamplingParams


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 1.5}, {"min_p": -1.0}, {"top_k": -1},
        {"max_tokens": 0}, {"seed": -1}, {"seed": 2**32 - 1}, {"repeat_penalty": 0.0}, {"logprobs": -1},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(option))) as refusal:
        SamplingParams(**option)
    assert refusal.value.hint


def test_a_missing_seed_is_drawn_and_a_given_one_kept() -> None:
    assert SamplingParams(seed=7).with_seed().seed == 7
    drawn = {SamplingParams().with_seed().seed for _ in range(5)}
    assert None not in drawn
    assert len(drawn) > 1
