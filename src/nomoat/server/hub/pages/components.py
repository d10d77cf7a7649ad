"""What a diffusion pipeline is made of, as its `model_index.json` and the headers of its weights say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.server.hub.pages.opened import Opened
from nomoat.share.checks.pipelines import INDEX_NAME

__all__ = ["Component", "components_of"]


@dataclass(frozen=True)
class Component:
    """A part of a pipeline: its folder, the class that reads it and that class's library, its bytes."""

    name: str
    class_name: str
    library: str
    size_bytes: int


def components_of(opened: Opened) -> Sequence[Component]:
    """The parts in the order of the file; empty where the repository is no pipeline."""
    index = opened.find(INDEX_NAME)
    named = opened.facts_of(index).get("components") if index else None
    if not isinstance(named, dict):
        return ()
    return [
        Component(name, class_name, library, _size(opened, name))
        for name, (library, class_name) in named.items()
    ]


def _size(opened: Opened, folder: str) -> int:
    return sum(entry.size_bytes for entry in opened.files if entry.path.startswith(f"{folder}/"))
