"""Prompts in all the forms that llama-server takes, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.run.engine import Engine
from nomoat.server.errors import BadRequest
from nomoat.server.llama_server.wire import Prompt, PromptObject, Prompts

__all__ = ["prompts_of", "tokens_of"]

_MOST_TEXTS = 4096


def prompts_of(given: Prompts, field: str, most: int) -> list[Prompt]:
    """The prompts of a request. A list in which there is a token id is one prompt."""
    if isinstance(given, list) and not any(isinstance(item, int) for item in given):
        prompts: list[Prompt] = [item for item in given if not isinstance(item, int)]
    elif isinstance(given, list):
        prompts = [[_part(item, field) for item in given]]
    else:
        prompts = [given]
    if not 1 <= len(prompts) <= most:
        raise BadRequest(f"{len(prompts)} prompts in one request; send 1 to {most}", field)
    return prompts


def tokens_of(engine: Engine, prompt: Prompt, field: str) -> list[int]:
    """Token ids of one prompt. BOS comes before a text at its beginning where the model wants it."""
    if isinstance(prompt, PromptObject):
        if prompt.multimodal_data:
            raise BadRequest("pictures and sound are not supported: this server reads text", field)
        prompt = prompt.prompt_string
    parts: Sequence[int | str] = [prompt] if isinstance(prompt, str) else prompt
    if sum(isinstance(part, str) for part in parts) > _MOST_TEXTS:
        raise BadRequest(
            f"a prompt of more than {_MOST_TEXTS} texts", field, "join texts that follow each other"
        )
    tokens: list[int] = []
    for place, part in enumerate(parts):
        tokens += engine.encode(part, add_special=place == 0) if isinstance(part, str) else [part]
    if not tokens:
        raise BadRequest("the prompt is empty", field, "give at least one token")
    return tokens


def _part(item: int | Prompt, field: str) -> int | str:
    if isinstance(item, int | str):
        return item
    raise BadRequest("a list of prompts cannot have token ids beside lists or objects", field)
