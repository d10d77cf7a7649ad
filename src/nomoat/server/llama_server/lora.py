"""llama-server's adapters by number: each is a place in the list of those that requests can name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nomoat.run.adapters import AdapterRef
from nomoat.server.errors import BadRequest, HttpProblem
from nomoat.server.llama_server.wire import LoraScale
from nomoat.server.models import Models

__all__ = ["adapter_list", "check_scales", "chosen_adapters"]


def adapter_list(models: Models) -> list[dict[str, Any]]:
    """Every adapter with its number. The scale is 0: none counts in a request that does not ask for it."""
    return [
        {"id": place, "name": entry.name, "path": str(entry.path), "scale": 0.0, "task_name": "", "prompt_prefix": ""}
        for place, entry in enumerate(models.adapters())
    ]  # fmt: skip


def chosen_adapters(models: Models, wanted: Sequence[LoraScale]) -> tuple[AdapterRef, ...]:
    """The adapters of a request, by name; of a number that comes twice the last scale counts."""
    entries = models.adapters() if wanted else []
    scales = {each.id: each.scale for each in wanted}
    for number in scales:
        if not 0 <= number < len(entries):
            raise BadRequest(f"there is no adapter {number}", "lora", "GET /lora-adapters lists them")
    return tuple(AdapterRef(entries[number].name, scale) for number, scale in scales.items() if scale)


def check_scales(models: Models, given: Any) -> None:
    """Refuse scales that would count in every request; those of 0, which is what all have here, change nothing."""
    try:
        scales = msgspec.convert(given, list[LoraScale])
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is a list of {{id, scale}}: {error}") from error
    if chosen_adapters(models, scales):
        raise HttpProblem(
            "not_implemented", "adapters count in the requests that ask for them, not in all of them",
            'send "lora" with each request, or a model like smollm2+me:0.8',
        )  # fmt: skip
