"""bf16 where this machine is fast at it, float32 elsewhere; a wish overrules the measurement."""

from __future__ import annotations

import pytest
import torch

from nomoat.base.errors import InputError
from nomoat.tune.precision import probe_precision


def test_the_choice_follows_from_the_measured_rates() -> None:
    found = probe_precision()
    assert found.fp32_flops > 0
    assert (found.name == "bf16") == (found.bf16_flops > 1.2 * found.fp32_flops)


@pytest.mark.parametrize(("wanted", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_wish_overrules_the_measurement(wanted: str, dtype: torch.dtype) -> None:
    found = probe_precision(wanted)
    assert (found.name, found.dtype) == (wanted, dtype)


def test_an_unknown_precision_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="fp8") as error:
        probe_precision("fp8")
    assert "bf16" in error.value.hint
