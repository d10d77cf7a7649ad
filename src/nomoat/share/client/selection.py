"""Which files of a repository are meant: one quantisation with all its parts, an adapter, or one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nomoat.base.errors import InputError, NotFoundError
from nomoat.formats.peft_config import CONFIG_NAME
from nomoat.formats.peft_folder import WEIGHTS_NAME
from nomoat.share.client.artefacts import ADAPTER_FILES
from nomoat.share.client.remote import RemoteFile, Snapshot

__all__ = ["Selection", "quantisation_of_name", "select"]

# As llama.cpp and Ollama choose where nothing is said.
_PREFERRED = ("Q4_K_M", "Q8_0")
_QUANTISATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q[0-9]|TQ[0-9]|MXFP4|NVFP4)\w*|BF16|FP?16|FP?32)$", re.IGNORECASE
)
_PART = re.compile(r"-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})$")
_LISTED = 12


@dataclass(frozen=True)
class Selection:
    """Files that belong together. `label` is the quantisation, or empty."""

    kind: Literal["model", "adapter"]
    files: tuple[RemoteFile, ...]
    label: str = ""

    @property
    def size_bytes(self) -> int:
        """All of them together."""
        return sum(file.size_bytes for file in self.files)


def select(snapshot: Snapshot, selector: str = "") -> Selection:
    """What `selector` means there. Raises `InputError` or `NotFoundError` with what there is to choose from."""
    models = _models(snapshot.files)
    if selector:
        return _named(snapshot, models, selector)
    if snapshot.file(CONFIG_NAME) and snapshot.file(WEIGHTS_NAME):
        return Selection("adapter", tuple(file for file in snapshot.files if file.path in ADAPTER_FILES))
    if not models:
        raise NotFoundError(
            f"{snapshot.repo}: holds neither a model in GGUF form nor an adapter",
            "all files of it: nomoat pull NAME --to FOLDER",
        )
    if len(models) == 1:
        return models[0]
    for preferred in _PREFERRED:
        found = [model for model in models if model.label.upper() == preferred]
        if len(found) == 1:
            return found[0]
    raise InputError(f"{snapshot.repo} holds several models: {_listed(models)}",
                     "say which, such as NAME:Q4_K_M or NAME:FILE.gguf")  # fmt: skip


def quantisation_of_name(path: str) -> str:
    """The quantisation in a file's name, in capitals; empty where it has none."""
    stem = _PART.sub("", path.rsplit("/", 1)[-1].removesuffix(".gguf"))
    match = _QUANTISATION.search(stem)
    return match[1].upper() if match else ""


def _named(snapshot: Snapshot, models: Sequence[Selection], selector: str) -> Selection:
    exact = [model for model in models if any(file.path == selector for file in model.files)]
    found = exact or [model for model in models if model.label == selector.upper()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{snapshot.repo} holds several models of {selector}: {_listed(found)}",
                         "name the file: NAME:FILE.gguf")  # fmt: skip
    there = f"there are: {_listed(models)}" if models else "there is no model in GGUF form"
    raise NotFoundError(f"{snapshot.repo} has no {selector!r}; {there}",
                        "name one of these, or leave it out")  # fmt: skip


def _models(files: Iterable[RemoteFile]) -> list[Selection]:
    """The GGUF files, parts of one model together; projectors of vision models belong to a model and are none."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        name = file.path.rsplit("/", 1)[-1]
        if name.endswith(".gguf") and not name.lower().startswith("mmproj"):
            groups.setdefault(_PART.sub("", file.path.removesuffix(".gguf")), []).append(file)
    return [_group(parts) for parts in groups.values()]


def _group(parts: list[RemoteFile]) -> Selection:
    match = _PART.search(parts[0].path.removesuffix(".gguf"))
    if match and len(parts) != int(match["count"]):
        raise NotFoundError(f"{parts[0].path}: only {len(parts)} of {int(match['count'])} parts are there",
                            "choose another file of it")  # fmt: skip
    return Selection("model", tuple(parts), quantisation_of_name(parts[0].path))


def _listed(models: Sequence[Selection]) -> str:
    labels = [model.label for model in models]
    names = [
        model.label if model.label and labels.count(model.label) == 1 else model.files[0].path
        for model in models
    ]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
