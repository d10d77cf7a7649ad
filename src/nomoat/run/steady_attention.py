"""The same logits for a token, whether it is evaluated alone or with others, by one thread or by several.

llama.cpp evaluates tokens in any number with the same operations in the same order, but for one case: with 512
or more tokens in memory, attention of a single token is split over the threads and summed anew. That changes
the last bits of the sums, and in about one greedy token in sixty the choice. Drafts verified together would
give another answer than plain decoding, and so would another number of threads.

The CPU backend has a switch for its reference routines, where attention is never split. For a single token
they cost nothing; for several they would leave out what is fast, and are not needed. llama.cpp hands out no pointer
to the backends of a context, so it is taken where it is made: in the table of the CPU device's functions.
Nothing else of that table is touched, and it is restored at once.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp

__all__ = ["AttentionSwitch", "capture_attention"]

_CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_GET_NAME, _INIT_BACKEND = 0, 5  # places in `struct ggml_backend_device_i`, which begins the device
_KNOWN_VERSION = "0.3.36"  # of llama-cpp-python: the layout above was read in its source

_InitBackend = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_GetName = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)


class AttentionSwitch:
    """Keeps the attention of one context steady. Without effect where this llama.cpp is not a known one."""

    def __init__(self) -> None:
        self._backends: list[int] = []
        self._set_reference: Any = None
        self._steady = False

    @property
    def available(self) -> bool:
        """Whether the switch does anything with this llama.cpp."""
        return bool(self._backends) and self._set_reference is not None

    def prepare(self, tokens: int) -> None:
        """Call it before each evaluation, with its number of tokens (a microsecond). Not after the context's end."""
        steady = tokens == 1
        if steady != self._steady:
            self._steady = steady
            for backend in self._backends if self.available else ():
                self._set_reference(backend, steady)


@contextlib.contextmanager
def capture_attention() -> Iterator[AttentionSwitch]:
    """Make exactly one context inside; the switch given is that context's from then on."""
    switch = AttentionSwitch()
    device = _cpu_device()
    if device is None:
        yield switch
        return
    functions = ctypes.cast(device, ctypes.POINTER(ctypes.c_void_p))
    original = functions[_INIT_BACKEND]
    make = _InitBackend(original)

    def keep(made_by: int, parameters: bytes) -> int:
        backend = make(made_by, parameters)
        if backend:
            switch._backends.append(backend)
        return int(backend or 0)

    callback = _InitBackend(keep)
    functions[_INIT_BACKEND] = ctypes.cast(callback, ctypes.c_void_p).value
    try:
        yield switch
    finally:
        functions[_INIT_BACKEND] = original
    switch._set_reference = _library("ggml-cpu").ggml_backend_cpu_set_use_ref
    switch._set_reference.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    switch._set_reference.restype = None


def _cpu_device() -> int | None:
    """The CPU device, or None where its layout is not surely the known one."""
    if llama_cpp.__version__ != _KNOWN_VERSION:
        return None
    try:
        library = _library("ggml")
        _library("ggml-cpu").ggml_backend_cpu_set_use_ref  # noqa: B018 - raises where it is missing
        by_type = library.ggml_backend_dev_by_type
    except (OSError, AttributeError):
        return None
    by_type.argtypes, by_type.restype = [ctypes.c_int], ctypes.c_void_p
    device: int | None = by_type(_CPU_DEVICE)
    if not device:
        return None
    get_name = _GetName(ctypes.cast(device, ctypes.POINTER(ctypes.c_void_p))[_GET_NAME])
    return device if get_name(device) == b"CPU" else None


def _library(name: str) -> ctypes.CDLL:
    folder = Path(llama_cpp.__file__).parent / "lib"
    for file in (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll"):
        if (folder / file).exists():
            return ctypes.CDLL(str(folder / file))
    raise OSError(f"no library {name} in {folder}")
