"""GGUF blocks to dense rows, with ggml's own routines: exactly the numbers that llama.cpp serves.

Oracle: `gguf.quants.dequantize`. Covers every type that ggml can widen to float32 (F16 and BF16 included).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import torch

from nomoat.base.errors import InputError
from nomoat.formats.ggml_types import GGMLType, block_layout
from nomoat.formats.gguf_file import GGUFFile
from nomoat.tune.native.kernels import Kernels

__all__ = ["PackedMatrix", "Unpacker", "packed_matrix"]

_ROWS_AT_A_TIME = 64  # a row buffer of this many rows stays in the cache


@dataclass(frozen=True)
class PackedMatrix:
    """A tensor as its file stores it: `rows` rows of `row_bytes` bytes each, `columns` elements wide."""

    name: str
    ggml_type: GGMLType
    rows: int
    columns: int
    blocks: np.ndarray
    """uint8 (rows, row_bytes), mapped from the file."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one packed row."""
        return int(self.blocks.shape[1])


def packed_matrix(gguf: GGUFFile, name: str) -> PackedMatrix:
    """The tensor `name` of `gguf`, mapped and left packed."""
    raw, info = gguf.raw(name), gguf.tensors[name]
    columns = info.shape[0]
    rows = info.n_elements // columns
    elements, size = block_layout(info.ggml_type)
    return PackedMatrix(name, info.ggml_type, rows, columns, raw.reshape(rows, columns // elements * size))


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64), ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )  # fmt: skip


class Unpacker:
    """Widens packed rows into float32 or bfloat16 tensors; uses all of torch's threads where kernels are built."""

    def __init__(self, kernels: Kernels | None) -> None:
        from llama_cpp._ggml import libggml

        self._kernels = kernels
        self._traits = libggml.ggml_get_type_traits
        self._traits.argtypes, self._traits.restype = [ctypes.c_int], ctypes.POINTER(_TypeTraits)

    def unpack(self, matrix: PackedMatrix, out: torch.Tensor) -> None:
        """Fill `out` (rows, columns), contiguous, float32 or bfloat16."""
        if matrix.ggml_type == GGMLType.F32:
            out.copy_(torch.from_numpy(np.array(matrix.blocks).view(np.float32)))
            return
        self._unpack(matrix, matrix.blocks, out)

    def take_rows(self, matrix: PackedMatrix, ids: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """Rows `ids` (n,) int64 of `matrix` as (n, columns); what an embedding look-up needs, no more."""
        out = torch.empty(len(ids), matrix.columns, dtype=dtype)
        blocks = np.ascontiguousarray(matrix.blocks[ids])
        if matrix.ggml_type == GGMLType.F32:
            return out.copy_(torch.from_numpy(blocks.view(np.float32)))
        self._unpack(matrix, blocks, out)
        return out

    def _unpack(self, matrix: PackedMatrix, blocks: np.ndarray, out: torch.Tensor) -> None:
        to_float = self._traits(int(matrix.ggml_type)).contents.to_float
        if not to_float:
            raise InputError(f"tensors of type {matrix.ggml_type.name} cannot be trained on",
                             "use a base quantised as Q4_0, Q4_K_M, Q8_0 or another common type")  # fmt: skip
        if self._kernels is None:
            self._unpack_in_python(to_float, blocks, out)
            return
        status = self._kernels(
            "unpack", out.dtype, to_float, blocks.ctypes.data, matrix.row_bytes, out, *out.shape
        )
        if status:
            raise MemoryError("no memory for a row buffer")

    @staticmethod
    def _unpack_in_python(to_float: int, blocks: np.ndarray, out: torch.Tensor) -> None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(to_float)
        buffer = torch.empty(_ROWS_AT_A_TIME, out.shape[1], dtype=torch.float32)
        for start in range(0, out.shape[0], _ROWS_AT_A_TIME):
            part = blocks[start : start + _ROWS_AT_A_TIME]
            function(part.ctypes.data, buffer.data_ptr(), part.shape[0] * out.shape[1])
            out[start : start + part.shape[0]].copy_(buffer[: part.shape[0]])
