"""Unpacked weights are the numbers that the `gguf` package, written by others, reads from the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import oracle
import pytest
import torch
from numpy.typing import NDArray

from nomoat.base.errors import InputError
from nomoat.formats.ggml_types import GGMLType, block_layout
from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.ops import FusedOps
from nomoat.tune.unpack import PackedMatrix, Unpacker, packed_matrix

# Where the 16-bit floats (scales, minima) lie within a block; every other byte may be anything.
FLOATS_AT = {
    "F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
ROWS, COLUMNS = 131, 512  # neither a multiple of the rows unpacked at a time nor of the threads


def _random_blocks(name: str) -> PackedMatrix:
    """Every bit pattern that a block may have, with scales that are finite numbers."""
    kind = GGMLType[name]
    elements, size = block_layout(kind)
    rng = np.random.default_rng(len(name) + int(kind))
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // elements, size), dtype=np.uint8)
    if name in ("F32", "BF16"):
        values = rng.standard_normal(ROWS * COLUMNS).astype(np.float32)
        wide = values.view(np.uint32)
        blocks = (
            (wide if name == "F32" else (wide >> 16).astype(np.uint16)).view(np.uint8).reshape(blocks.shape)
        )
    for place in FLOATS_AT[name]:
        scales = rng.standard_normal(len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return PackedMatrix(name, kind, ROWS, COLUMNS, blocks.reshape(ROWS, -1))


def _expected(matrix: PackedMatrix) -> torch.Tensor:
    kind = gguf.GGMLQuantizationType[matrix.ggml_type.name]
    values: NDArray[np.float32] = gguf.quants.dequantize(matrix.blocks, kind).astype(np.float32)
    return torch.from_numpy(values.reshape(matrix.rows, matrix.columns))


@pytest.fixture(params=["kernels", "python"])
def unpacker(request: pytest.FixtureRequest) -> Unpacker:
    if request.param == "python":
        return Unpacker(None)
    ops: FusedOps = request.getfixturevalue("fused")
    return Unpacker(ops.kernels)


@pytest.mark.parametrize("name", FLOATS_AT)
def test_float32_is_bit_equal_to_the_reference(name: str, unpacker: Unpacker) -> None:
    matrix = _random_blocks(name)
    out = torch.empty(ROWS, COLUMNS)
    unpacker.unpack(matrix, out)
    assert torch.equal(out, _expected(matrix))


@pytest.mark.parametrize("name", FLOATS_AT)
def test_bfloat16_is_the_reference_rounded_once(name: str, unpacker: Unpacker) -> None:
    matrix = _random_blocks(name)
    out = torch.empty(ROWS, COLUMNS, dtype=torch.bfloat16)
    unpacker.unpack(matrix, out)
    assert torch.equal(out, _expected(matrix).to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FLOATS_AT)
def test_single_rows_can_be_taken_in_any_order(name: str, dtype: torch.dtype, unpacker: Unpacker) -> None:
    matrix, ids = _random_blocks(name), np.array([130, 0, 7, 7, 64])
    taken = unpacker.take_rows(matrix, ids, dtype)
    assert torch.equal(taken, _expected(matrix)[ids].to(dtype))


@pytest.mark.parametrize("name", ["F16", "Q4_K", "Q6_K"])
def test_weights_quantised_by_ggml_come_back_close_to_what_they_were(name: str, unpacker: Unpacker) -> None:
    values = np.random.default_rng(1).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    kind = gguf.GGMLQuantizationType[name]
    blocks = oracle.packed(values, kind)
    out = torch.empty(ROWS, COLUMNS)
    unpacker.unpack(PackedMatrix(name, GGMLType[name], ROWS, COLUMNS, blocks), out)
    error = (out - torch.from_numpy(values)).norm() / np.linalg.norm(values)
    assert error < {"F16": 0.001, "Q4_K": 0.1, "Q6_K": 0.03}[name]


def test_a_tensor_of_a_file_stays_packed_and_mapped(tiny_model: Callable[..., Path]) -> None:
    file = read_gguf(tiny_model("llama", "Q4_K"))
    matrix = packed_matrix(file, "blk.0.ffn_down.weight")
    assert (matrix.rows, matrix.columns, matrix.row_bytes) == (256, 512, 2 * 144)
    assert isinstance(matrix.blocks, np.memmap)


def test_a_type_that_nothing_can_widen_is_refused_by_name(unpacker: Unpacker) -> None:
    matrix = PackedMatrix("ids", GGMLType.I32, 1, 4, np.zeros((1, 16), np.uint8))
    with pytest.raises(InputError, match="I32"):
        unpacker.unpack(matrix, torch.empty(1, 4))


@pytest.mark.parametrize("name", ["blk.3.attn_k.weight", "blk.29.ffn_norm.weight", "blk.7.ffn_down.weight"])
def test_a_real_model_is_read_bit_equal(name: str, smollm2_path: Path, unpacker: Unpacker) -> None:
    file = read_gguf(smollm2_path)
    matrix = packed_matrix(file, name)
    out = torch.empty(matrix.rows, matrix.columns)
    unpacker.unpack(matrix, out)
    assert torch.equal(out, torch.from_numpy(oracle.dequantised(file, name)).reshape(out.shape))
