"""What a client of llama-server sends. Fields that are not named here are ignored."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from nomoat.server.fill_in import ExtraText
from nomoat.server.openai_messages import MessageBody, ToolBody
from nomoat.server.samplers import SharedOptions
from nomoat.server.wire import Body

__all__ = [
    "CompletionRequest",
    "EmbeddingRequest",
    "InfillRequest",
    "LoraScale",
    "Prompt",
    "PromptObject",
    "Prompts",
    "SamplingOptions",
    "TemplateRequest",
]

Mixed = list[int | str]
"""Token ids and texts, one after the other."""
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class PromptObject(Struct):
    """A prompt as an object, which could carry pictures."""

    prompt_string: str | Mixed
    multimodal_data: list[str] | None = None


Prompt = str | Mixed | PromptObject
Prompts = str | PromptObject | list[int | str | Mixed | PromptObject]
"""One prompt, or a list of them."""


class LoraScale(Struct):
    """An adapter by its place in `/lora-adapters`, with its strength."""

    id: int
    scale: Annotated[float, Meta(ge=-100, le=100)] = 0.0


class SamplingOptions(SharedOptions, kw_only=True):
    """How tokens are chosen. What is not given has llama.cpp's own default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Limit | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: list[tuple[int | str, float | bool]] | dict[str, float | bool] | None = None


class CompletionRequest(SamplingOptions, kw_only=True):
    """Body of `POST /completion`."""

    prompt: Prompts
    model: str | None = None
    n_predict: Limit | None = None
    max_completion_tokens: Limit | None = None
    max_tokens: Limit | None = None
    n_cmpl: Annotated[int, Meta(ge=1, le=64)] | None = None
    n: Annotated[int, Meta(ge=1, le=64)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    n_probs: int | None = None
    logprobs: int | None = None
    lora: Annotated[list[LoraScale], Meta(max_length=64)] | None = None
    return_tokens: bool | None = None
    response_fields: list[str] | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens that may be made, None for as many as fit."""
        given = (self.n_predict, self.max_completion_tokens, self.max_tokens)
        wanted = next((value for value in given if value is not None), -1)
        return None if wanted == -1 else wanted

    @property
    def likeliest(self) -> int:
        """How many of the likeliest tokens are told for each place, 0 for no probabilities."""
        return max(0, (self.n_probs if self.n_probs is not None else self.logprobs) or 0)


class InfillRequest(CompletionRequest, kw_only=True):
    """Body of `POST /infill`. `prompt` follows the prefix: it is what was typed last."""

    input_prefix: str
    input_suffix: str
    prompt: str = ""
    input_extra: Annotated[list[ExtraText], Meta(max_length=4096)] | None = None


class EmbeddingRequest(Body, kw_only=True):
    """Body of `POST /embedding`: texts or token ids as `content` or `input`, and the norm that vectors shall have."""

    content: Prompts | None = None
    input: Prompts | None = None
    model: str | None = None
    embd_normalize: Annotated[int, Meta(le=100)] | None = None


class TemplateRequest(Body, kw_only=True):
    """Body of `POST /apply-template`: a conversation in OpenAI's form."""

    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    tools: list[ToolBody] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    model: str | None = None
