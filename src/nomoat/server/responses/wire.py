"""What a client of OpenAI's Responses API sends. Fields that are not named here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from nomoat.server.openai_common import AdapterBody
from nomoat.server.wire import Body

__all__ = ["CreateRequest", "FunctionTool", "NamedFunction", "Reasoning", "TextConfig", "TextFormat"]


class TextFormat(Struct):
    """The answer's form. `schema` belongs to "json_schema"."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextConfig(Struct):
    """Options of the answer's text."""

    format: TextFormat | None = None


class FunctionTool(Struct, tag_field="type", tag="function"):
    """A function that the caller can run; `parameters` is the JSON schema of its arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class NamedFunction(Struct, tag_field="type", tag="function"):
    """The one function that must be called."""

    name: str


class Reasoning(Struct):
    """How much a model that thinks shall think: "none" for not at all."""

    effort: str | None = None


class CreateRequest(Body, kw_only=True):
    """Body of `POST /v1/responses`. `input` is text, or a list of messages, calls and their results."""

    model: str = ""
    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    adapters: Annotated[list[AdapterBody], Meta(max_length=64)] | None = None

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields that would change the answer and cannot be honoured."""
        return {
            "background": "stream the answer instead", "conversation": "use 'previous_response_id'",
            "prompt": "send instructions and input", "context_management": "nothing is cut off silently",
        }  # fmt: skip
