"""Whether a model fits is answered with figures and a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nomoat.base.errors import NotEnoughMemoryError
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.gguf_write import write_gguf
from nomoat.store.memory import available_memory_bytes, check_fits, memory_need


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> GGUFFile:
    return read_gguf(smollm2_path)


def test_the_need_is_weights_context_and_room_to_work(smollm2: GGUFFile) -> None:
    need = memory_need(smollm2, 1024)
    assert need.weights_bytes == smollm2.size_bytes
    assert need.kv_bytes == 30 * 3 * (64 + 64) * 1024 * 2  # the 23.6 MB that llama.cpp reports
    assert need.total_bytes == check_fits(smollm2, 1024, available_bytes=1 << 40).total_bytes


def test_a_context_that_does_not_fit_is_refused_with_one_that_does(smollm2: GGUFFile) -> None:
    available = memory_need(smollm2, 4096).total_bytes
    with pytest.raises(NotEnoughMemoryError, match=r"weights 0\.10 GB.* are free") as caught:
        check_fits(smollm2, 8192, available_bytes=available)
    assert "a context of 4,096 tokens would fit" in caught.value.hint
    check_fits(smollm2, 4096, available_bytes=available)
    check_fits(smollm2, 8192, kv_bytes_per_element=1, available_bytes=available)


def test_weights_that_do_not_fit_call_for_a_smaller_file(smollm2: GGUFFile) -> None:
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_fits(smollm2, 512, available_bytes=50_000_000)
    assert "smaller quantisation" in caught.value.hint


def test_this_machine_s_memory_is_asked_by_default(smollm2: GGUFFile) -> None:
    assert 0 < available_memory_bytes() < 1 << 50
    with pytest.raises(NotEnoughMemoryError):
        check_fits(smollm2, 1 << 40)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "elements"), [(0, None, 0), (4, [0, 2, 0, 2], 4 * 64), (4, 2, 8 * 64)]
)
def test_layers_that_remember_in_a_state_of_fixed_size_need_no_room_for_tokens(
    tmp_path: Path, heads: int, kv_heads: int | list[int] | None, elements: int
) -> None:
    """Recurrent models say that they have no heads (Mamba), or none in such layers (LFM2)."""
    metadata = {"general.architecture": "lfm2", "lfm2.block_count": 4, "lfm2.embedding_length": 128,
                "lfm2.attention.head_count": heads, "lfm2.vocab_size": 10}  # fmt: skip
    if kv_heads is not None:
        metadata["lfm2.attention.head_count_kv"] = kv_heads
    write_gguf(tmp_path / "model.gguf", metadata, {"token_embd.weight": np.zeros((10, 128), np.float32)})
    assert memory_need(read_gguf(tmp_path / "model.gguf"), 1000).kv_bytes == 2 * 1000 * elements
