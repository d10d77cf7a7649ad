"""Requests and answers in the words of each protocol, without a server."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import EngineError, InputError
from nomoat.run.protocol import TokenLogprob
from nomoat.run.sampling import SamplingParams
from nomoat.server.answer_events import Event, Finished, TextDelta, ToolArguments, ToolCallBegun, Usage
from nomoat.server.anthropic import events as anthropic_events
from nomoat.server.anthropic import translate as from_anthropic
from nomoat.server.anthropic import wire as anthropic_wire
from nomoat.server.anthropic.routes import broken_off
from nomoat.server.anthropic.routes import translated as to_anthropic
from nomoat.server.named_events import named_events
from nomoat.server.ollama import translate as from_ollama
from nomoat.server.ollama import wire as ollama_wire
from nomoat.server.ollama.answers import AnswerLines
from nomoat.server.ollama.generation import Run, encoded
from nomoat.server.responses import translate as from_responses
from nomoat.server.responses import wire as responses_wire
from nomoat.server.responses.events import ResponseEvents
from nomoat.server.responses.routes import translated as to_responses

TEXTS = st.text(max_size=20)
ARGUMENTS = st.dictionaries(st.text(max_size=5), st.integers() | TEXTS, max_size=3)
CALLS = st.lists(st.tuples(st.text("ab_", min_size=1, max_size=5), ARGUMENTS), max_size=3)


def _cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@st.composite
def _answers(draw: st.DrawFn) -> tuple[str, list[tuple[str, dict[str, Any]]], list[Event]]:
    """A text, calls after it, and the events in which they come."""
    text, calls = draw(TEXTS), draw(CALLS)
    cuts = st.lists(st.integers(0, 20), max_size=4)
    events: list[Event] = [TextDelta(piece) for piece in _cut(text, draw(cuts))]
    for index, (name, arguments) in enumerate(calls):
        events.append(ToolCallBegun(index, f"call_{index}", name))
        pieces = _cut(json.dumps(arguments), draw(cuts))
        events += [ToolArguments(index, piece) for piece in pieces]
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    events.append(Finished(reason, Usage(9, 4, 5), 0.1, 0.2, 1))
    return text, calls, events


# -- Anthropic -----------------------------------------------------------------------------------------


@given(_answers())
def test_anthropics_events_build_the_message(answer: tuple[str, Any, list[Event]]) -> None:
    text, calls, events = answer
    builder = anthropic_events.MessageEvents("msg_1", "m")
    parts = [*builder.begin(9), *(part for event in events for part in to_anthropic(event, builder))]
    blocks: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "content_block_start":
            assert part["index"] == len(blocks)
            blocks.append({**part["content_block"], "json": ""})
        elif part["type"] == "content_block_delta":
            assert part["index"] == len(blocks) - 1
            blocks[-1]["json"] += part["delta"].get("partial_json", "")
            blocks[-1]["text"] = blocks[-1].get("text", "") + part["delta"].get("text", "")
    starts, stops = (
        sum(part["type"] == f"content_block_{kind}" for part in parts) for kind in ("start", "stop")
    )
    assert starts == stops == len(builder.message["content"])
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == text
    made = [(block["name"], json.loads(block["json"])) for block in blocks if block["type"] == "tool_use"]
    assert made == calls
    assert [(b["name"], b["input"]) for b in builder.message["content"] if b["type"] == "tool_use"] == calls
    assert parts[-1] == {"type": "message_stop"}
    assert (
        builder.message["usage"]["input_tokens"] == 5
        and builder.message["usage"]["cache_read_input_tokens"] == 4
    )


def test_anthropics_turns_keep_their_order_and_roles() -> None:
    raw = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "d"}, {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "2", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": "e"},
            {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "f"}], "is_error": True},
            {"type": "text", "text": "g"},
        ]},
    ]  # fmt: skip
    messages = msgspec.convert(raw, list[anthropic_wire.InputMessage])
    assert from_anthropic.conversation("s", messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a\n\nb\n\nc"},
        {"role": "assistant", "content": "d", "tool_calls": [
            {"id": "1", "name": "f", "arguments": '{"x": 1}'}, {"id": "2", "name": "f", "arguments": "{}"},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "e"},
        {"role": "tool", "tool_call_id": "2", "content": "Error: f"},
        {"role": "user", "content": "g"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("finish_reason", "stop", "expected"),
    [("stop", "", "end_turn"), ("stop", "x", "stop_sequence"), ("length", "", "max_tokens"),
     ("tool_calls", "", "tool_use")],
)  # fmt: skip
def test_anthropic_has_its_own_words_for_an_end(finish_reason: str, stop: str, expected: str) -> None:
    assert anthropic_events.stop_reason(finish_reason, stop) == expected


# -- Ollama --------------------------------------------------------------------------------------------


@given(_answers())
def test_ollamas_lines_hold_the_text_and_whole_calls(answer: tuple[str, Any, list[Event]]) -> None:
    text, calls, events = answer
    run = Run(AnswerLines("m", chat=True), stream=True)
    lines = [line for event in events for line in run.parts(event)]
    whole = AnswerLines("m", chat=True).joined(lines)["message"]
    assert whole["content"] == text
    made = [(call["function"]["name"], call["function"]["arguments"]) for call in whole.get("tool_calls", ())]
    assert made == calls
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


@given(st.fixed_dictionaries({}, optional={
    "temperature": st.floats(0, 2), "top_k": st.integers(-1, 100), "top_p": st.floats(0, 1),
    "min_p": st.floats(0, 1), "num_predict": st.integers(-2, 100), "seed": st.integers(-1, 2**40),
    "repeat_last_n": st.integers(-1, 64), "stop": st.lists(TEXTS, max_size=3) | TEXTS,
}))  # fmt: skip
def test_every_sensible_option_of_ollama_is_taken(options: dict[str, Any]) -> None:
    made = from_ollama.sampling(msgspec.convert(options, ollama_wire.Options), None, None)
    assert made.max_tokens == (options["num_predict"] if options.get("num_predict", 0) > 0 else None)
    assert made.temperature == options.get("temperature", SamplingParams().temperature)
    assert "" not in made.stop


def test_ollamas_calls_and_results_are_numbered_alike() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    raw = [{"role": "assistant", "tool_calls": [call, call]}, {"role": "tool", "content": "a"},
           {"role": "tool", "content": "b", "tool_name": "f"}]  # fmt: skip
    turns = from_ollama.conversation(msgspec.convert(raw, list[ollama_wire.InputMessage]))
    assert [made["id"] for made in turns[0]["tool_calls"]] == [turn["tool_call_id"] for turn in turns[1:]]
    assert turns[0]["tool_calls"][0]["arguments"] == '{"x": 1}'


# -- responses -----------------------------------------------------------------------------------------


@given(_answers())
def test_events_of_a_response_build_it(answer: tuple[str, Any, list[Event]]) -> None:
    text, calls, events = answer
    builder = ResponseEvents(responses_wire.CreateRequest(model="m"), "m")
    parts = [*builder.begin(), *(part for event in events for part in to_responses(event, builder))]
    assert [part["sequence_number"] for part in parts] == list(range(len(parts)))
    assert parts[0]["type"] == "response.created" and parts[-1]["type"] in {
        "response.completed",
        "response.incomplete",
    }
    opened: dict[int, str] = {}
    for part in parts:
        if part["type"] == "response.output_item.added":
            assert part["output_index"] == len(opened)
            opened[part["output_index"]] = part["item"]["id"]
        elif "item_id" in part:
            assert opened[part["output_index"]] == part["item_id"]
    output = parts[-1]["response"]["output"]
    assert [item["id"] for item in output] == list(opened.values())
    assert "".join(item["content"][0]["text"] for item in output if item["type"] == "message") == text
    made = [
        (item["name"], json.loads(item["arguments"])) for item in output if item["type"] == "function_call"
    ]
    assert made == calls


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.dictionaries(
    st.sampled_from(["type", "role", "content", "call_id", "name", "arguments", "output", "id"]),
    st.sampled_from(["message", "user", "assistant", "function_call", "function_call_output", "reasoning"])
    | JSON,
)


@given(st.lists(ITEMS, max_size=3))
def test_any_items_become_a_conversation_or_a_plain_refusal(items: list[dict[str, Any]]) -> None:
    try:
        turns = from_responses.conversation(None, from_responses.input_items(items))
    except InputError:
        return
    assert all(isinstance(turn["content"], str) and turn["role"] in {"user", "assistant", "system", "tool"}
               for turn in turns)  # fmt: skip


def test_instructions_and_developers_make_one_system_prompt() -> None:
    items: Any = [{"role": "developer", "content": "b"}, {"role": "user", "content": "c"},
                  {"role": "user", "content": [{"type": "input_text", "text": "d"}]}]  # fmt: skip
    assert from_responses.conversation("a", from_responses.input_items(items)) == [
        {"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "c"}, {"role": "user", "content": "d"},
    ]  # fmt: skip


def test_what_was_answered_can_be_sent_again() -> None:
    builder = ResponseEvents(responses_wire.CreateRequest(model="m"), "m")
    builder.begin()
    builder.text("a", [TokenLogprob(1, b"a", -0.5)])
    builder.tool("call_1", "f")
    builder.arguments('{"x": 1}')
    builder.end("tool_calls", {})
    turns = from_responses.conversation(None, builder.response["output"])
    call = {"id": "call_1", "name": "f", "arguments": '{"x": 1}'}
    assert turns == [{"role": "assistant", "content": "a", "tool_calls": [call]}]


# -- answers that break off ----------------------------------------------------------------------------


async def _breaking_off(first: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    yield first
    raise EngineError("the worker died", "send it again")


def _received(stream: AsyncIterator[bytes]) -> list[str]:
    async def read() -> list[str]:
        return [part.decode() async for part in stream]

    return asyncio.run(read())


def test_anthropic_is_told_in_the_stream_that_an_answer_broke_off() -> None:
    parts = _received(named_events(_breaking_off({"type": "ping"}), broken_off))
    assert parts[0] == 'event: ping\ndata: {"type":"ping"}\n\n'
    name, data = parts[1].removeprefix("event: ").split("\ndata: ")
    assert name == "error"
    assert json.loads(data)["error"] == {
        "type": "api_error",
        "message": "the worker died (send it again)",
    }


def test_a_response_that_broke_off_has_failed() -> None:
    builder = ResponseEvents(responses_wire.CreateRequest(model="m"), "m")
    builder.begin()
    builder.text("half an ans")
    parts = _received(named_events(_breaking_off({"type": "x"}), lambda error: builder.failed(error.message)))
    event = json.loads(parts[-1].split("\ndata: ")[1])
    assert event["type"] == "response.failed"
    assert (
        event["response"]["status"] == "failed" and event["response"]["error"]["message"] == "the worker died"
    )
    assert event["response"]["output"][0]["status"] == "incomplete"


def test_ollamas_last_line_is_the_error() -> None:
    lines = [json.loads(line) for line in _received(encoded(_breaking_off({"done": False})))]
    assert lines == [{"done": False}, {"error": "the worker died (send it again)"}]
