"""What a model is, read from its GGUF header: the facts that `nomoat show` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nomoat.base.errors import BadFileError
from nomoat.formats.ggml_types import GGMLType, file_type_name
from nomoat.formats.gguf_file import GGUFFile

__all__ = ["ModelFacts", "describe", "quantisation_of"]

# `general.license` as converters write it -> SPDX id; SPDX ids are matched whatever their case.
_SPDX = {
    name.lower(): name
    for name in (
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0",
        "CC0-1.0", "GPL-3.0-only", "LGPL-3.0-only", "AGPL-3.0-only", "MPL-2.0", "Unlicense",
    )
}  # fmt: skip


@dataclass(frozen=True)
class ModelFacts:
    """Facts of one file. `licence` is empty and `context_length` 0 where the file does not say."""

    architecture: str
    parameters: int
    quantisation: str
    context_length: int
    licence: str


def describe(gguf: GGUFFile) -> ModelFacts:
    """Facts of a model's file. Raises `BadFileError` where it is an adapter or one part of several."""
    kind = gguf.metadata.get("general.type", "model")
    if kind != "model":
        raise BadFileError(gguf.path, "key 'general.type'", f"is {kind!r}, not a model",
                           "give an adapter with --adapter of `nomoat run`")  # fmt: skip
    parts = gguf.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise BadFileError(gguf.path, "key 'split.count'", f"is one of {parts} parts of a model",
                           "join them first: llama-gguf-split --merge FIRST-PART OUT.gguf")  # fmt: skip
    if not gguf.tensors:
        raise BadFileError(gguf.path, "", "holds no weights", "name a complete model")
    context = gguf.hyperparameter("context_length", 0)
    licence = gguf.metadata.get("general.license")
    return ModelFacts(
        architecture=gguf.architecture,
        parameters=sum(tensor.n_elements for tensor in gguf.tensors.values()),
        quantisation=quantisation_of(gguf),
        context_length=context if isinstance(context, int) else 0,
        licence=_SPDX.get(licence.lower(), licence) if isinstance(licence, str) else "",
    )


def quantisation_of(gguf: GGUFFile) -> str:
    """The type of most weights, by its mixture's name (`Q4_K_M`) where the file's own claim agrees."""
    elements: Counter[GGMLType] = Counter()
    for tensor in gguf.tensors.values():
        if len(tensor.shape) >= 2:
            elements[tensor.ggml_type] += tensor.n_elements
    if not elements:
        return "F32"
    majority = elements.most_common(1)[0][0].name
    claimed = file_type_name(gguf.metadata.get("general.file_type")) or ""
    return claimed if claimed.startswith(majority) else majority
