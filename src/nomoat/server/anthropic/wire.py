"""What a client of Anthropic's Messages API sends. Fields that are not named here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from nomoat.server.wire import Body

__all__ = [
    "AnyTool",
    "AutoTool",
    "ContentBlock",
    "CountRequest",
    "DocumentBlock",
    "ImageBlock",
    "InputMessage",
    "MessagesRequest",
    "Metadata",
    "NamedTool",
    "NoTool",
    "OutputConfig",
    "OutputFormat",
    "RedactedThinkingBlock",
    "TextBlock",
    "Thinking",
    "ThinkingBlock",
    "Tool",
    "ToolChoice",
    "ToolResultBlock",
    "ToolUseBlock",
]


class TextBlock(Struct, tag_field="type", tag="text"):
    """Text."""

    text: str


class ImageBlock(Struct, tag_field="type", tag="image"):
    """A picture; refused with the reason."""

    source: dict[str, Any] = {}


class DocumentBlock(Struct, tag_field="type", tag="document"):
    """A PDF or another document; refused with the reason."""

    source: dict[str, Any] = {}


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    """What another model thought earlier; left out of the prompt."""

    thinking: str = ""


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking"):
    """What another model thought, encrypted; left out of the prompt."""

    data: str = ""


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    """A call of a tool that the model made."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    """What a tool returned."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] = ""
    is_error: bool | None = False


ContentBlock = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
)
"""A part of a message."""


class InputMessage(Struct):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class Tool(Struct):
    """A function that the caller can run. `type` other than "custom" names a tool that runs at Anthropic."""

    name: str
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None


class AutoTool(Struct, tag_field="type", tag="auto"):
    """The model decides whether to call a tool."""

    disable_parallel_tool_use: bool = False


class AnyTool(Struct, tag_field="type", tag="any"):
    """The model must call one of the tools."""

    disable_parallel_tool_use: bool = False


class NamedTool(Struct, tag_field="type", tag="tool"):
    """The model must call this tool."""

    name: str
    disable_parallel_tool_use: bool = False


class NoTool(Struct, tag_field="type", tag="none"):
    """The model must not call a tool."""


ToolChoice = AutoTool | AnyTool | NamedTool | NoTool
"""Which tools may or must be called."""


class Thinking(Struct):
    """Extended thinking, for models that can: "enabled", "disabled", or "adaptive", which leaves it to the model."""

    type: str


class Metadata(Struct):
    """`user_id` tells clients apart, so that one of many requests does not keep the others waiting."""

    user_id: str | None = None


class OutputFormat(Struct):
    """The answer's form: a JSON schema that it obeys."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct):
    """Options of the answer's form."""

    format: OutputFormat | None = None


class CountRequest(Body, kw_only=True):
    """Body of `POST /v1/messages/count_tokens`."""

    model: str
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=100_000)]
    system: str | list[TextBlock] = ""
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None

    @classmethod
    def refused(cls) -> dict[str, str]:
        """What only runs at Anthropic."""
        return {"container": "no code runs here", "mcp_servers": "nothing here uses the network"}


class MessagesRequest(CountRequest, kw_only=True):
    """Body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stop_sequences: Annotated[list[str], Meta(max_length=64)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
