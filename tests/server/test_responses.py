"""OpenAI's Responses API, asked for by OpenAI's own client."""

from __future__ import annotations

import json
import stat
from typing import Any

import jsonschema_rs
import openai
import pytest
from running_server import RunningServer

from nomoat.formats.chat_template import Message
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

HELLO = "Say hello to the world."
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_output_tokens": 8}
CITY: Any = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
WEATHER: Any = {"type": "function", "name": "get_weather", "description": "The weather in a city.",
                "parameters": CITY, "strict": True}  # fmt: skip
ASK_WEATHER: Any = {
    "model": "smollm2", "max_output_tokens": 60, "temperature": 0, "tools": [WEATHER],
    "input": "Will it rain in Paris tomorrow?", "tool_choice": {"type": "function", "name": "get_weather"},
}  # fmt: skip


def _messages(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


def test_an_answer_is_what_the_engine_says(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.responses.create(input=HELLO, **GREEDY)
    greedy = SamplingParams(temperature=0, max_tokens=8)
    assert answer.output_text == engine.chat(_messages(("user", HELLO)), greedy).text()
    assert (answer.status, answer.model, answer.object) == ("incomplete", "smollm2", "response")
    assert answer.incomplete_details and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage and answer.usage.output_tokens == 8
    assert answer.usage.input_tokens == len(engine.encode_chat(_messages(("user", HELLO))))


def test_instructions_and_messages_make_one_conversation(client: openai.OpenAI, engine: Engine) -> None:
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
        {"role": "user", "content": HELLO},
    ]
    answer = client.responses.create(input=items, instructions="You are a pirate.", **GREEDY)
    turns = (
        ("system", "You are a pirate.\n\nBe brief."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", HELLO),
    )
    assert answer.usage and answer.output_text
    assert answer.usage.input_tokens == len(engine.encode_chat(_messages(*turns)))


def test_a_stream_has_the_events_in_their_order(client: openai.OpenAI) -> None:
    whole = client.responses.create(input=HELLO, **GREEDY)
    events: Any = list(client.responses.create(input=HELLO, **GREEDY, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * deltas, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == whole.output_text
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text


def test_the_clients_own_stream_ends_with_the_whole(client: openai.OpenAI) -> None:
    with client.responses.stream(input="Say hi.", **{**GREEDY, "max_output_tokens": 100}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert final.status == "completed" and final.output_text


def test_log_probabilities_come_where_they_are_asked_for(client: openai.OpenAI) -> None:
    answer: Any = client.responses.create(
        input=HELLO, **GREEDY, top_logprobs=2, include=["message.output_text.logprobs"]
    )
    entries = answer.output[0].content[0].logprobs
    assert len(entries) == 8 and all(len(entry.top_logprobs) == 2 for entry in entries)


def test_an_answer_obeys_a_schema(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
    answer = client.responses.create(input="Name a city.", **{**GREEDY, "max_output_tokens": 60}, text=form)
    assert answer.status == "completed"
    jsonschema_rs.validate(CITY, json.loads(answer.output_text))


# -- tools ---------------------------------------------------------------------------------------------


def test_a_tool_is_called_and_its_result_taken(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK_WEATHER)
    (call,) = first.output
    assert call.type == "function_call" and call.name == "get_weather" and first.status == "completed"
    jsonschema_rs.validate(CITY, json.loads(call.arguments))
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny, 21 degrees"}
    second = client.responses.create(input=[result], previous_response_id=first.id, tools=[WEATHER],
                                     tool_choice="none", **GREEDY)  # fmt: skip
    assert second.output_text
    # The same conversation, without the server's memory.
    items: Any = [{"role": "user", "content": ASK_WEATHER["input"]}, call.to_dict(), result]
    again = client.responses.create(input=items, store=False, tools=[WEATHER], tool_choice="none", **GREEDY)
    assert again.output_text == second.output_text


def test_a_streamed_call_is_the_same_call(client: openai.OpenAI) -> None:
    whole: Any = client.responses.create(**ASK_WEATHER).output[0]
    with client.responses.stream(**ASK_WEATHER) as stream:
        kinds = {event.type for event in stream}
        final: Any = stream.get_final_response()
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds
    assert "response.output_text.delta" not in kinds
    assert final.output[0].arguments == whole.arguments


# -- state ---------------------------------------------------------------------------------------------


def test_the_input_is_counted_before_it_is_sent(client: openai.OpenAI) -> None:
    request: Any = {"model": "smollm2", "input": "Say hello.", "instructions": "Be brief."}
    first = client.responses.create(**request, max_output_tokens=4)
    assert (
        first.usage
        and client.responses.input_tokens.count(**request).input_tokens == first.usage.input_tokens
    )
    request = {"model": "smollm2", "input": "Again.", "previous_response_id": first.id}
    second = client.responses.create(**request, max_output_tokens=1)
    assert (
        second.usage
        and client.responses.input_tokens.count(**request).input_tokens == second.usage.input_tokens
    )


def test_a_conversation_goes_on_from_a_response(client: openai.OpenAI, engine: Engine) -> None:
    first = client.responses.create(input="My name is Ada.", instructions="Be brief.", **GREEDY)
    second = client.responses.create(input="What is my name?", previous_response_id=first.id, **GREEDY)
    assert second.previous_response_id == first.id
    turns = (("user", "My name is Ada."), ("assistant", first.output_text), ("user", "What is my name?"))
    assert second.usage  # instructions are not carried over
    assert second.usage.input_tokens == len(engine.encode_chat(_messages(*turns)))


def test_a_kept_response_can_be_read_and_deleted(client: openai.OpenAI, server: RunningServer) -> None:
    made = client.responses.create(input=HELLO, **GREEDY, metadata={"mood": "good"})
    path = server.home / "responses" / f"{made.id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    read = client.responses.retrieve(made.id)
    assert read.output_text == made.output_text and read.metadata == {"mood": "good"}
    (item,) = client.responses.input_items.list(made.id).data
    assert item.type == "message" and item.content[0].type == "input_text" and item.content[0].text == HELLO
    client.responses.delete(made.id)
    assert not path.exists()
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not kept"):
        client.responses.create(input="And now?", previous_response_id=made.id, **GREEDY)


def test_nothing_is_kept_of_what_must_not_be(client: openai.OpenAI, server: RunningServer) -> None:
    before = set((server.home / "responses").glob("*"))
    made = client.responses.create(input=HELLO, **GREEDY, store=False)
    assert set((server.home / "responses").glob("*")) == before
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_streamed_response_is_kept_before_its_last_event(client: openai.OpenAI) -> None:
    for event in client.responses.create(input=HELLO, **GREEDY, stream=True):
        if event.type == "response.incomplete":
            assert client.responses.retrieve(event.response.id).output_text == event.response.output_text


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input": []}, "empty"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input_image",
        ),
        ({"input": [{"role": "alien", "content": "x"}]}, "alien"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "web_search_call"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "references"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "call_id"),
        ({"input": [{"type": 5}]}, "type"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tool_choice": "required"}, "tools"),
        ({"previous_response_id": "../../etc/passwd"}, "not kept"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "word " * 2000}, "context"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else None,
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    client: openai.OpenAI, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason):
        client.post("/responses", body={"input": HELLO, **GREEDY, **change}, cast_to=object)


def test_closing_a_stream_frees_the_engine(client: openai.OpenAI, server: RunningServer) -> None:
    kept = set((server.home / "responses").glob("*"))
    cancelled = server.figure("nomoat_answers_cancelled_total")
    stream = client.responses.create(
        input="Count from one to a thousand, in words.", stream=True, **{**GREEDY, "max_output_tokens": 900}
    )
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    server.wait_until_idle()
    assert server.figure("nomoat_answers_cancelled_total") == cancelled + 1
    assert set((server.home / "responses").glob("*")) == kept
