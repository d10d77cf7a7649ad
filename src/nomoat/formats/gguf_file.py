"""A GGUF file's header as data: metadata, tensor directory, and raw bytes by name. Parses nothing itself."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.formats.ggml_types import GGMLType
from nomoat.formats.gguf_parse import MINIMUM_BYTES, Header, parse_header

__all__ = ["GGUFFile", "TensorInfo", "read_gguf"]

_REMEDY = "download or copy the file again, and compare its size or digest with the source"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's place: `shape` innermost first (GGUF order), `offset` from the start of the file."""

    name: str
    shape: tuple[int, ...]
    ggml_type: GGMLType
    offset: int
    nbytes: int
    n_elements: int


@dataclass(frozen=True)
class GGUFFile:
    """A checked header. Every tensor named here lies whole within the file."""

    path: Path
    version: int
    metadata: dict[str, Any] = field(repr=False)
    tensors: dict[str, TensorInfo] = field(repr=False)
    alignment: int
    data_offset: int
    size_bytes: int

    @property
    def architecture(self) -> str:
        """`general.architecture`, such as `llama`. Raises `BadFileError` where the file does not say."""
        architecture: str = self._required("general.architecture", str)
        return architecture

    def hyperparameter(self, name: str, default: Any = None) -> Any:
        """The value of `{architecture}.{name}`; `default` where absent, `BadFileError` without one."""
        key = f"{self.architecture}.{name}"
        if key not in self.metadata and default is not None:
            return default
        return self._required(key, object)

    def raw(self, name: str) -> np.memmap[Any, np.dtype[np.uint8]]:
        """The packed bytes of a tensor, `(nbytes,)` uint8, mapped read-only and not copied."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise BadFileError(self.path, f"tensor {name!r}", "is not in the file", "use a complete model")
        return np.memmap(self.path, dtype=np.uint8, mode="r", offset=tensor.offset, shape=(tensor.nbytes,))

    def _required(self, key: str, kind: type) -> Any:
        value = self.metadata.get(key)
        if value is None or not isinstance(value, kind):
            problem = "is missing" if value is None else f"is a {type(value).__name__}, not a {kind.__name__}"
            raise BadFileError(self.path, f"key {key!r}", problem, "use a complete model in GGUF form")
        return value


def read_gguf(path: Path | str) -> GGUFFile:
    """Read and check the header of a GGUF v2 or v3 file; the tensors' bytes are not read.

    Raises `NotFoundError` where there is no such file and `BadFileError`, naming the byte or the key, where
    it is damaged, truncated or of another format.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            size_bytes = handle.seek(0, 2)
            if size_bytes < MINIMUM_BYTES:
                raise BadFileError(path, "byte 0", f"only {size_bytes} bytes, no GGUF header", _REMEDY)
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                header = parse_header(mapped, size_bytes, path)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise BadFileError(path, "", f"cannot be read ({error.strerror})", "name a readable file") from error
    return _as_file(path, header, size_bytes)


def _as_file(path: Path, header: Header, size_bytes: int) -> GGUFFile:
    tensors = {
        entry.name: TensorInfo(
            entry.name, entry.shape, entry.ggml_type, header.data_offset + entry.relative_offset,
            entry.nbytes, entry.n_elements,
        )
        for entry in header.tensors
    }  # fmt: skip
    return GGUFFile(
        path, header.version, header.metadata, tensors, header.alignment, header.data_offset, size_bytes
    )
