"""A model that thinks before it answers, in the words of each API.

The embedded model does not think. With a template that asks for it and a grammar that makes it write both, it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from running_server import RunningServer, started

from nomoat.server.anthropic.events import MessageEvents
from nomoat.server.responses.events import ResponseEvents
from nomoat.server.responses.wire import CreateRequest
from thinking_model import write_thinking_model

THOUGHT, ANSWER = "A river is water.", "The Rhine."
RIVER: Any = [{"role": "user", "content": "Name a river."}]
SCHEMA: Any = {"type": "object", "properties": {"ok": {"const": True}}, "required": ["ok"],
               "additionalProperties": False}  # fmt: skip


@pytest.fixture(scope="module")
def thinker(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose one model is the embedded one, with a template of a model that thinks."""
    folder = tmp_path_factory.mktemp("thinker")
    model = write_thinking_model(smollm2_path, folder / "thinker.gguf")
    with started(model, folder, str(model), "--port", "0", "--context-length", "512") as running:
        yield running


def grammar(begun: bool) -> str:
    """What makes the model think aloud, then answer."""
    start = "" if begun else "<think>\\n"
    return f'root ::= "{start}{THOUGHT}\\n</think>\\n\\n{ANSWER}"'


@pytest.fixture
def client(thinker: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{thinker.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.mark.parametrize("switches", [{}, {"enable_thinking": True}])
def test_openais_client_finds_reasoning_where_llama_server_puts_it(
    client: openai.OpenAI, switches: dict[str, bool]
) -> None:
    more = {"grammar": grammar(begun=bool(switches)), "chat_template_kwargs": switches}
    whole = client.chat.completions.create(model="", messages=RIVER, extra_body=more)
    message: Any = whole.choices[0].message
    assert (message.reasoning_content, message.content) == (THOUGHT, ANSWER)
    assert whole.usage and whole.usage.completion_tokens_details
    assert 0 < (whole.usage.completion_tokens_details.reasoning_tokens or 0) < whole.usage.completion_tokens
    stream = client.chat.completions.create(model="", messages=RIVER, extra_body=more, stream=True)
    deltas: list[Any] = [part.choices[0].delta for part in stream]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == THOUGHT
    assert "".join(delta.content or "" for delta in deltas) == ANSWER


def test_reasoning_can_stay_in_the_text(client: openai.OpenAI) -> None:
    more = {"grammar": grammar(begun=False), "reasoning_format": "none"}
    message = client.chat.completions.create(model="", messages=RIVER, extra_body=more).choices[0].message
    assert message.content == f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"


def test_a_model_is_told_not_to_think(thinker: RunningServer) -> None:
    def prompt(**switches: Any) -> str:
        body = {"messages": RIVER, "chat_template_kwargs": switches}
        return str(thinker.post("/apply-template", body).json()["prompt"])

    assert prompt().endswith("assistant\n")
    assert prompt(enable_thinking=True).endswith("<think>\n")
    assert prompt(enable_thinking=False).endswith("<think>\n</think>\n")
    counted = [
        thinker.post("/v1/chat/completions/input_tokens", {"messages": RIVER, **more}).json()["input_tokens"]
        for more in ({}, {"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}})
    ]
    assert counted[0] < counted[1] == counted[2]


def test_what_the_request_sets_itself_is_no_switch(thinker: RunningServer) -> None:
    body = {"messages": RIVER, "chat_template_kwargs": {"messages": []}}
    answer = thinker.post("/v1/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "chat_template_kwargs")


def test_an_answer_of_an_enforced_form_is_never_taken_for_reasoning(client: openai.OpenAI) -> None:
    """A grammar leaves no room for an end of thinking that the prompt has opened."""
    message = client.chat.completions.create(
        model="", messages=RIVER, max_tokens=40, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "ok", "schema": SCHEMA}},
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    ).choices[0].message  # fmt: skip
    assert "true" in (message.content or "")


def test_ollamas_client_thinks_when_asked(thinker: RunningServer) -> None:
    own = ollama.Client(host=thinker.url)
    name = thinker.ready["models"][0]
    assert "thinking" in (own.show(name).capabilities or [])
    options = {"temperature": 0, "num_predict": 12}
    thinking = own.chat(name, messages=RIVER, think=True, options=options).message
    assert thinking.thinking and not thinking.content  # it had no room to come to an end
    parts = list(own.chat(name, messages=RIVER, think=True, options=options, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == thinking.thinking
    generated = own.generate(name, prompt="Name a river.", think=True, options=options)
    assert (generated.thinking, generated.response) == (thinking.thinking, "")
    plain = own.chat(name, messages=RIVER, think=False, options=options).message
    assert plain.content and not plain.thinking


def test_anthropics_client_gets_a_block_of_thinking(thinker: RunningServer) -> None:
    own = anthropic.Anthropic(base_url=thinker.url, api_key="none", max_retries=0, timeout=60)
    name = thinker.ready["models"][0]
    with own.messages.stream(
        model=name, max_tokens=12, messages=RIVER, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking"]
    plain = own.messages.create(model=name, max_tokens=12, messages=RIVER)
    assert [block.type for block in plain.content] == ["text"]


def test_a_model_that_cannot_think_may_be_left_the_choice(server: RunningServer) -> None:
    """Agents send "adaptive" to every model."""
    body = {"model": "smollm2", "max_tokens": 4, "messages": RIVER}
    assert server.post("/v1/messages", {**body, "thinking": {"type": "adaptive"}}).status_code == 200
    refused = server.post("/v1/messages", {**body, "thinking": {"type": "enabled", "budget_tokens": 1024}})
    assert (refused.status_code, "does not support thinking" in refused.text) == (400, True)


def test_a_response_begins_with_an_item_of_reasoning(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model="", input="Name a river.", max_output_tokens=16, reasoning={"effort": "low"}, stream=True
    )
    events: list[Any] = list(stream)
    response = events[-1].response
    assert [item.type for item in response.output] == ["reasoning"]
    text = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert text == response.output[0].content[0].text
    assert response.usage.output_tokens_details.reasoning_tokens == response.usage.output_tokens


def test_a_model_that_does_not_think_says_so(server: RunningServer) -> None:
    """Ollama's own words, which its clients look for."""
    wish = server.post("/api/chat", {"model": "smollm2", "messages": RIVER, "think": True})
    assert (wish.status_code, "does not support thinking" in wish.json()["error"]) == (400, True)
    assert "thinking" not in server.post("/api/show", {"model": "smollm2"}).json()["capabilities"]
    ignored = server.post(
        "/v1/chat/completions", {"messages": RIVER, "max_tokens": 4, "reasoning_effort": "low"}
    )
    assert "reasoning_content" not in ignored.json()["choices"][0]["message"]


def test_reasoning_ends_before_the_answer_begins() -> None:
    """In both APIs that write answers as a list of items."""
    message = MessageEvents("msg_1", "m")
    kinds = [event["type"] for event in (*message.thinking(THOUGHT), *message.text(ANSWER))]
    assert kinds == ["content_block_start", "content_block_delta", "content_block_stop", *kinds[:2]]
    response = ResponseEvents(CreateRequest(model="m", input="?"), "m")
    events = [*response.reasoning(THOUGHT), *response.text(ANSWER), *response.end("stop", {})]
    done = [event["item"]["type"] for event in events if event["type"] == "response.output_item.done"]
    assert done == ["reasoning", "message"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
