"""What a client of Ollama sends. Fields that are not named here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from nomoat.server.wire import Body

__all__ = [
    "ChatRequest",
    "Definition",
    "EmbedRequest",
    "EmbeddingsRequest",
    "Function",
    "GenerateRequest",
    "InputMessage",
    "ModelRequest",
    "Options",
    "Tool",
    "ToolCall",
]


class Function(Struct):
    """The function of a call. Ollama sends arguments as an object, some of its clients as JSON text."""

    name: str
    arguments: dict[str, Any] | str = {}


class ToolCall(Struct):
    """A call of a tool that the model made."""

    function: Function
    id: str | None = None


class InputMessage(Struct):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = ""
    images: list[Any] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Definition(Struct):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """A tool; functions are the only kind."""

    function: Definition
    type: str | None = "function"


class Options(Struct):
    """Sampling options. What only matters when Ollama loads a model (`num_ctx`, `num_gpu`...) is ignored."""

    num_predict: int | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: int | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    tfs_z: float | None = None
    typical_p: float | None = None


class ChatRequest(Body, kw_only=True):
    """Body of `POST /api/chat`. Without messages it only loads the model."""

    model: Annotated[str, Meta(min_length=1)]
    messages: list[InputMessage] | None = None
    tools: list[Tool] | None = None
    format: dict[str, Any] | str | None = None
    options: Options | None = None
    stream: bool | None = True
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class GenerateRequest(Body, kw_only=True):
    """Body of `POST /api/generate`. Without a prompt it only loads the model."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | None = ""
    suffix: str | None = ""
    system: str | None = ""
    template: str | None = ""
    context: list[Annotated[int, Meta(ge=0)]] | None = None
    raw: bool | None = False
    images: list[Any] | None = None
    format: dict[str, Any] | str | None = None
    options: Options | None = None
    stream: bool | None = True
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class EmbedRequest(Body, kw_only=True):
    """Body of `POST /api/embed`."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[str]
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0)] | None = None
    options: Options | None = None
    keep_alive: float | str | None = None


class EmbeddingsRequest(Body, kw_only=True):
    """Body of `POST /api/embeddings`, the older form for one text."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | None = ""
    options: Options | None = None
    keep_alive: float | str | None = None


class ModelRequest(Body, kw_only=True):
    """A model by name, under the present key or the older one."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = True
    verbose: bool | None = False

    @property
    def wanted(self) -> str:
        """The name that was given."""
        return self.model or self.name or ""
