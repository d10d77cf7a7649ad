"""The shared library's functions, typed, on torch tensors that are already of the right shape and dtype."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

__all__ = ["Kernels"]

_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
_P, _L, _F, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "rmsnorm_forward": [_P, _P, _P, _P, _P, _L, _L, _F],
    "rmsnorm_backward": [_P, _P, _P, _P, _P, _L, _L],
    "rope": [_P, _P, _P, _P, _L, _L, _L, _L, _L, _I, _F],
    "swiglu_forward": [_P, _P, _L, _L],
    "swiglu_backward": [_P, _P, _P, _L, _L],
    "causal_softmax": [_P, _P, _L, _L, _L, _L, _F],
    "causal_softmax_backward": [_P, _P, _P, _P, _L, _L, _L, _L, _F],
    "cross_entropy": [_P, _P, _P, _L, _L, _F],
    "unpack": [_P, _P, _L, _P, _L, _L],
}


class Kernels:
    """`kernels(name, dtype, *arguments)` calls a kernel; tensors are passed by address.

    The caller answers for shapes: every caller lives in `nomoat.tune.ops` or `.unpack`.
    """

    def __init__(self, library: Path) -> None:
        # Loaded after torch, so that the dynamic linker gives both the same OpenMP runtime.
        loaded = ctypes.CDLL(str(library))
        self._functions = {}
        for name, argument_types in _SIGNATURES.items():
            for dtype, suffix in _SUFFIX.items():
                function = getattr(loaded, f"nomoat_{name}_{suffix}")
                function.argtypes = argument_types
                function.restype = _I if name == "unpack" else None
                self._functions[name, dtype] = function

    def __call__(self, name: str, dtype: torch.dtype, *arguments: torch.Tensor | float | int | None) -> int:
        """Run kernel `name` for element type `dtype` (float32 or bfloat16).

        Raises `ValueError` for a tensor with gaps, which would be read as if it had none; only rope's rows may be
        strided.
        """
        if name != "rope" and not all(a.is_contiguous() for a in arguments if isinstance(a, torch.Tensor)):
            raise ValueError(f"{name}: a tensor is not contiguous")
        values = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        result = self._functions[name, dtype](*values)
        return 0 if result is None else int(result)
