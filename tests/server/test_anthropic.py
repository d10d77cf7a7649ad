"""Anthropic's Messages API, asked for by Anthropic's own client."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import jsonschema_rs
import pytest
from running_server import RunningServer

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

HELLO: Any = [{"role": "user", "content": "Say hello to the world."}]
# The client has no argument for the temperature any more; the API has.
GREEDY: Any = {"model": "smollm2", "extra_body": {"temperature": 0}, "max_tokens": 8}
CITY: Any = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
WEATHER: Any = {"name": "get_weather", "description": "The weather in a city.", "input_schema": CITY}
ASK_WEATHER: Any = {
    "model": "smollm2", "max_tokens": 60, "extra_body": {"temperature": 0}, "tools": [WEATHER],
    "messages": [{"role": "user", "content": "Will it rain in Paris tomorrow?"}],
}  # fmt: skip


@pytest.fixture
def claude(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_an_answer_is_what_the_engine_says(claude: anthropic.Anthropic, engine: Engine) -> None:
    answer = claude.messages.create(messages=HELLO, **GREEDY)
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == engine.chat(HELLO, SamplingParams(temperature=0, max_tokens=8)).text()
    assert (answer.role, answer.stop_reason, answer.model) == ("assistant", "max_tokens", "smollm2")
    assert answer.usage.output_tokens == 8
    read = answer.usage.cache_read_input_tokens or 0
    assert answer.usage.input_tokens + read == len(engine.encode_chat(HELLO))


def test_a_stream_has_the_events_in_their_order(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(messages=HELLO, **GREEDY)
    events = list(claude.messages.create(messages=HELLO, **GREEDY, stream=True))
    kinds = [kind for kind, _ in itertools.groupby(event.type for event in events)]
    assert kinds == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    with claude.messages.stream(messages=HELLO, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text"]
    assert text == getattr(final.content[0], "text", None) == getattr(whole.content[0], "text", None)
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_stream_is_pinged_as_at_anthropic(server: RunningServer) -> None:
    body = server.post(
        "/v1/messages", {"model": "smollm2", "max_tokens": 8, "messages": HELLO, "stream": True}
    ).text
    assert body.startswith("event: message_start\ndata: {")
    assert "event: ping\n" in body and body.rstrip().endswith('{"type":"message_stop"}')


def test_the_system_prompt_and_content_may_come_in_blocks(claude: anthropic.Anthropic) -> None:
    blocks: Any = [{"role": "user", "content": [{"type": "text", "text": "Say hello to the world."}]}]
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert claude.messages.create(messages=blocks, system=system, **GREEDY).content
    one = claude.messages.count_tokens(model="smollm2", messages=HELLO, system="Be brief.")
    assert one == claude.messages.count_tokens(model="smollm2", messages=blocks, system=system)


def test_a_stop_sequence_is_named_and_not_shown(claude: anthropic.Anthropic) -> None:
    counting: Any = [{"role": "user", "content": "Repeat after me: one two three four five six"}]
    plain: Any = claude.messages.create(messages=counting, **{**GREEDY, "max_tokens": 16}).content[0]
    word = plain.text.split()[2]
    stopped = claude.messages.create(
        messages=counting, **{**GREEDY, "max_tokens": 16}, stop_sequences=["qqq", word]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    assert getattr(stopped.content[0], "text", None) == plain.text.partition(word)[0]


def test_a_begun_answer_goes_on(claude: anthropic.Anthropic, engine: Engine) -> None:
    begun = "Hello and welcome to"
    answer: Any = claude.messages.create(messages=[*HELLO, {"role": "assistant", "content": begun}], **GREEDY)
    assert answer.content[0].text
    read = answer.usage.cache_read_input_tokens or 0
    assert answer.usage.input_tokens + read == len(engine.encode_chat(HELLO) + engine.encode(begun))


def test_an_answer_obeys_a_schema(claude: anthropic.Anthropic) -> None:
    answer: Any = claude.messages.create(
        messages=[{"role": "user", "content": "Name a city."}], **{**GREEDY, "max_tokens": 60},
        output_config={"format": {"type": "json_schema", "schema": CITY}},
    )  # fmt: skip
    jsonschema_rs.validate(CITY, json.loads(answer.content[0].text))
    assert answer.stop_reason == "end_turn"


# -- tools ---------------------------------------------------------------------------------------------


def test_a_tool_is_called_and_its_result_taken(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(**ASK_WEATHER, tool_choice={"type": "tool", "name": "get_weather"})
    (call,) = answer.content
    assert call.type == "tool_use" and call.name == "get_weather"
    assert answer.stop_reason == "tool_use"
    jsonschema_rs.validate(CITY, call.input)

    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    more: Any = [*ASK_WEATHER["messages"], {"role": "assistant", "content": answer.content},
                 {"role": "user", "content": [result, {"type": "text", "text": "So?"}]}]  # fmt: skip
    after = claude.messages.create(
        **{**ASK_WEATHER, "messages": more, "max_tokens": 8}, tool_choice={"type": "none"}
    )
    assert [block.type for block in after.content] == ["text"]


def test_a_streamed_call_is_the_same_call(claude: anthropic.Anthropic) -> None:
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    whole: Any = claude.messages.create(**ASK_WEATHER, tool_choice=choice)
    with claude.messages.stream(**ASK_WEATHER, tool_choice=choice) as stream:
        deltas = [event.delta.type for event in stream if event.type == "content_block_delta"]
        final: Any = stream.get_final_message()
    assert set(deltas) == {"input_json_delta"}
    assert final.content[0].input == whole.content[0].input
    assert final.stop_reason == "tool_use"


def test_tokens_are_counted_without_an_answer(claude: anthropic.Anthropic, engine: Engine) -> None:
    count = claude.messages.count_tokens(model="smollm2", messages=HELLO)
    assert count.input_tokens == len(engine.encode_chat(HELLO))
    with_tool = claude.messages.count_tokens(model="smollm2", messages=HELLO, tools=[WEATHER])
    assert with_tool.input_tokens > count.input_tokens + 50


def test_the_models_on_offer_are_listed(claude: anthropic.Anthropic) -> None:
    models = claude.models.list().data
    assert [model.id for model in models] == ["smollm2", "smollm2+me"]
    assert models[0].display_name == "smollm2" and models[0].created_at.year > 2000
    assert claude.models.retrieve("smollm2+me").id == "smollm2+me"


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "pictures"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "documents"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]},
         "tool_use block"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"tool_choice": {"type": "any"}}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "nope"}}, "nope"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"temperature": -1}, "temperature"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "context"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_reason(
    claude: anthropic.Anthropic, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=reason) as caught:
        claude.post(
            "/v1/messages",
            body={"model": "smollm2", "max_tokens": 8, "messages": HELLO, **change},
            cast_to=object,
        )
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_thinking_may_be_switched_off_and_old_thoughts_are_left_out(claude: anthropic.Anthropic) -> None:
    thoughts: Any = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Hello."},
    ]}, *HELLO]  # fmt: skip
    plain: Any = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}, *HELLO]
    assert claude.messages.create(messages=thoughts, **GREEDY, thinking={"type": "disabled"}).content
    one = claude.messages.count_tokens(model="smollm2", messages=thoughts)
    assert one == claude.messages.count_tokens(model="smollm2", messages=plain)


def test_an_unknown_model_is_not_found(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(messages=HELLO, **{**GREEDY, "model": "claude-9"})
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"


def test_a_wrong_key_is_told_in_anthropics_words(start_server: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    url = start_server("--api-key-file", str(keys)).url
    with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as wrong:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            wrong.messages.count_tokens(model="smollm2", messages=HELLO)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
    with anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0) as right:
        assert right.messages.count_tokens(model="smollm2", messages=HELLO).input_tokens


def test_closing_a_stream_frees_the_engine(claude: anthropic.Anthropic, server: RunningServer) -> None:
    long: Any = [{"role": "user", "content": "Count from one to a thousand, in words."}]
    cancelled = server.figure("nomoat_answers_cancelled_total")
    stream = claude.messages.create(messages=long, **{**GREEDY, "max_tokens": 900}, stream=True)
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()
    server.wait_until_idle()
    assert server.figure("nomoat_answers_cancelled_total") == cancelled + 1
