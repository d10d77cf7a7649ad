"""Conversations that end with the beginning of an answer: the model goes on from there.

Anthropic, Ollama and llama-server continue a last message of the assistant instead of answering it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nomoat.server.answers import AnswerRequest
from nomoat.server.errors import BadRequest
from nomoat.server.models import Models
from nomoat.server.tools import with_tools

__all__ = ["begun_answer", "check_thinks", "continued", "prompt_text", "prompt_tokens"]


def begun_answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text with which the model's answer begins already; empty where the conversation ends with a question."""
    return _split(messages)[1]


def prompt_tokens(models: Models, request: AnswerRequest, continues: bool = True) -> list[int]:
    """Token ids of the conversation up to where the answer begins, or where it goes on if it `continues` a message."""
    engine = models.resolve(request.model, request.adapters).engine
    messages, begun = _split(request.messages or ()) if continues else (request.messages or (), "")
    tokens = engine.encode_chat(
        with_tools(messages, request.tools, request.tool_choice), request.template_variables
    )
    return tokens + (engine.encode(begun) if begun else [])


def prompt_text(models: Models, request: AnswerRequest) -> str:
    """The text that has these tokens. It leaves out a BOS that whoever encodes it adds."""
    engine = models.resolve(request.model, request.adapters).engine
    messages, begun = _split(request.messages or ())
    plain = with_tools(messages, request.tools, request.tool_choice)
    text = engine.template.render(plain, True, request.template_variables) + begun
    return text.removeprefix(engine.template.bos_token) if engine.model.adds_bos else text


def continued(models: Models, request: AnswerRequest) -> AnswerRequest:
    """`request` with its prompt as token ids where its last message is the beginning of an answer."""
    if not _split(request.messages or ())[1]:
        return request
    stop = models.resolve(request.model, request.adapters).engine.template.stop
    sampling = replace(request.sampling, stop=(*request.sampling.stop, *stop))
    return replace(request, messages=None, prompt=prompt_tokens(models, request), sampling=sampling)


def check_thinks(models: Models, request: AnswerRequest, field: str) -> None:
    """Raise `BadRequest` that blames `field` where a model shall think that was not made for it."""
    if not request.template_variables.get("enable_thinking"):
        return
    if not models.resolve(request.model, request.adapters).engine.template.thinks:
        raise BadRequest(f"{request.model!r} does not support thinking", field, "leave it out")


def _split(messages: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], str]:
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls") or len(messages) < 2:
        return messages, ""
    begun = str(last.get("content") or "")
    return (messages[:-1], begun) if begun else (messages, "")
