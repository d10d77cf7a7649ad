"""Chat completions, asked for by OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import openai
import pytest
from running_server import RunningServer

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

HELLO: Any = [{"role": "user", "content": "Say hello to the world."}]
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_tokens": 8}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 18, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 16}, "days": {"type": "integer", "minimum": 1, "maximum": 7},
    }, "required": ["city", "days"], "additionalProperties": False},
}}  # fmt: skip


def test_an_answer_is_what_the_engine_says(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.chat.completions.create(messages=HELLO, **GREEDY)
    assert (
        answer.choices[0].message.content
        == engine.chat(HELLO, SamplingParams(temperature=0, max_tokens=8)).text()
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage and answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens == len(engine.encode_chat(HELLO))


def test_minus_one_is_no_limit_as_for_llama_server(client: openai.OpenAI) -> None:
    request = {"model": "smollm2", "messages": HELLO, "temperature": 0}
    answer = client.chat.completions.create(**request, max_tokens=-1)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message == client.chat.completions.create(**request).choices[0].message


def test_a_client_of_llama_server_may_leave_the_version_out(
    server: RunningServer, client: openai.OpenAI
) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60) as short:
        assert short.models.list().data == client.models.list().data
        answers = [each.chat.completions.create(messages=HELLO, **GREEDY).choices for each in (short, client)]
    assert answers[0] == answers[1]


def test_a_stream_says_the_same_in_parts_and_ends_with_the_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=HELLO, **GREEDY)
    stream = client.chat.completions.create(
        messages=HELLO, **GREEDY, stream=True, stream_options={"include_usage": True}
    )
    parts = list(stream)
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-2].choices[0].finish_reason == "length"
    assert parts[-1].usage and whole.usage and parts[-1].usage.total_tokens == whole.usage.total_tokens
    assert len({part.id for part in parts}) == 1


def test_a_stream_tells_figures_where_they_are_wanted(client: openai.OpenAI) -> None:
    told = {"timings_per_token": True, "return_progress": True}
    parts = list(client.chat.completions.create(messages=HELLO, **GREEDY, stream=True, extra_body=told))
    progress = [part.prompt_progress for part in parts if "prompt_progress" in (part.model_extra or {})]  # type: ignore[attr-defined]
    assert progress[0]["total"] == progress[-1]["processed"] > progress[0]["processed"]
    timings = [part.model_extra["timings"] for part in parts[1:] if part.model_extra]
    assert [each["predicted_n"] for each in (timings[0], timings[-1])] == [0, 8]
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == client.chat.completions.create(messages=HELLO, **GREEDY).choices[0].message.content


@pytest.mark.parametrize("form", [
    {"response_format": {"type": "json_object", "schema": PERSON}}, {"json_schema": PERSON},
], ids=lambda form: next(iter(form)))  # fmt: skip
def test_a_schema_counts_where_llama_servers_clients_put_it(
    client: openai.OpenAI, form: dict[str, Any]
) -> None:
    who: Any = [{"role": "user", "content": "Who is it?"}]
    answer = client.chat.completions.create(model="smollm2", messages=who, temperature=0, extra_body=form)
    assert jsonschema_rs.is_valid(PERSON, json.loads(answer.choices[0].message.content or ""))


def test_fields_of_llama_server_count_as_there(client: openai.OpenAI, server: RunningServer) -> None:
    body = {
        "model": "smollm2",
        "temperature": 0,
        "repeat_penalty": 1.4,
        "repeat_last_n": 2,
        "ignore_eos": True,
    }
    prompt = server.post("/apply-template", {"messages": HELLO}).json()["prompt"]
    own = server.post("/completion", {**body, "prompt": prompt, "n_predict": 12}).json()["content"]
    for path, question in (
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"prompt": prompt}),
    ):
        choice = server.post(path, {**body, **question, "n_predict": 12}).json()["choices"][0]
        assert (choice.get("text") or choice["message"]["content"]) == own
        assert choice["finish_reason"] == "length"


def test_a_conversation_is_counted_before_it_is_sent(server: RunningServer) -> None:
    body = {"messages": HELLO, "tools": [WEATHER], "max_tokens": 1}
    counted = server.post("/v1/chat/completions/input_tokens", body).json()
    used = server.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"]
    assert counted == {"object": "response.input_tokens", "input_tokens": used}


def test_content_may_come_in_parts_of_text(client: openai.OpenAI) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "Say hello "},
                                               {"type": "text", "text": "to the world."}]}]  # fmt: skip
    whole = client.chat.completions.create(messages=HELLO, **GREEDY).choices[0].message.content
    assert client.chat.completions.create(messages=parts, **GREEDY).choices[0].message.content == whole


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    options: Any = {**GREEDY, "temperature": 1.5, "seed": 7}
    # The first one reads the prompt; the others find it in memory and compute the very same.
    _, second, third = (client.chat.completions.create(messages=HELLO, **options) for _ in range(3))
    assert second.choices[0].message.content == third.choices[0].message.content


def test_choices_of_one_seed_differ(client: openai.OpenAI) -> None:
    options: Any = {**GREEDY, "temperature": 1.5, "seed": 7, "n": 3}
    answer = client.chat.completions.create(messages=HELLO, **options)
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_choices_are_streamed_side_by_side(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(messages=HELLO, **{**GREEDY, "n": 2}, stream=True)
    texts = ["", ""]
    for part in stream:
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
    assert all(texts)


def test_a_stop_text_ends_the_answer_and_is_not_shown(client: openai.OpenAI) -> None:
    counting: Any = [{"role": "user", "content": "Repeat after me: one two three four five six"}]
    plain = client.chat.completions.create(messages=counting, **{**GREEDY, "max_tokens": 16}).choices[0]
    assert plain.message.content
    word = plain.message.content.split()[2]
    stopped = client.chat.completions.create(
        messages=counting, **{**GREEDY, "max_tokens": 16}, stop=[word]
    ).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == plain.message.content.partition(word)[0]


def test_a_bias_forces_a_token(client: openai.OpenAI, engine: Engine) -> None:
    (token,) = engine.encode(" blue")
    answer = client.chat.completions.create(
        messages=HELLO, **{**GREEDY, "max_tokens": 3}, logit_bias={str(token): 100}
    )
    assert answer.choices[0].message.content == " blue" * 3


def test_log_probabilities_come_for_every_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=HELLO, **GREEDY, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs
    assert entries and entries.content and len(entries.content) == 8
    text = b"".join(bytes(entry.bytes or []) for entry in entries.content).decode()
    assert text == answer.choices[0].message.content
    for entry in entries.content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob <= 0  # greedy takes the likeliest


def test_streamed_log_probabilities_are_complete(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(messages=HELLO, **GREEDY, logprobs=True, stream=True)
    entries = [
        e for part in stream if part.choices[0].logprobs for e in part.choices[0].logprobs.content or []
    ]
    assert len(entries) == 8


# -- forms of answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_an_answer_obeys_a_json_schema(client: openai.OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Describe Ada."}], temperature=1.2, seed=seed,
        max_tokens=120, response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
    )  # fmt: skip
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(PERSON, json.loads(answer.choices[0].message.content or ""))


def test_a_json_object_is_one(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=[{"role": "user", "content": 'Answer with {"ok": true} in JSON.'}],
        **{**GREEDY, "max_tokens": 60}, response_format={"type": "json_object"},
    )  # fmt: skip
    content = answer.choices[0].message.content or ""
    assert content.startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


def test_a_schema_that_cannot_be_kept_is_refused(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "(?=x)y"}},
        "minProperties": 3,
    }
    with pytest.raises(openai.BadRequestError, match="minProperties"):
        client.chat.completions.create(messages=HELLO, **GREEDY, response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema},
        })  # fmt: skip


# -- tools ---------------------------------------------------------------------------------------------


def test_a_required_tool_is_called_with_valid_arguments(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Will it rain in Paris tomorrow?"}], temperature=0,
        max_tokens=80, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False,
    )  # fmt: skip
    (call,) = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert call.type == "function" and call.function.name == "get_weather"
    jsonschema_rs.validate(WEATHER["function"]["parameters"], json.loads(call.function.arguments))


def test_a_named_tool_is_streamed_and_its_result_taken(client: openai.OpenAI) -> None:
    question: Any = [{"role": "user", "content": "Will it rain in Paris tomorrow?"}]
    other: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
    stream = client.chat.completions.create(
        model="smollm2", messages=question, temperature=0, max_tokens=80, tools=[other, WEATHER], stream=True,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )  # fmt: skip
    deltas = [part.choices[0].delta for part in stream]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert calls[0].id and calls[0].function and calls[0].function.name == "get_weather"
    assert all(call.id is None for call in calls[1:])
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    jsonschema_rs.validate(WEATHER["function"]["parameters"], json.loads(arguments))
    assert not any(delta.content for delta in deltas)

    call: Any = {
        "id": calls[0].id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": arguments},
    }
    more: Any = [*question, {"role": "assistant", "tool_calls": [call]},
                 {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny, 21 degrees"}]  # fmt: skip
    answer = client.chat.completions.create(messages=more, **GREEDY, tools=[WEATHER], tool_choice="none")
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls


def test_tools_may_be_left_alone(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=HELLO, **GREEDY, tools=[WEATHER], tool_choice="auto")
    assert answer.choices[0].finish_reason in {"length", "stop", "tool_calls"}


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temperature": 1000}, "temperature"),
        ({"n": 0}, "n"),
        ({"logit_bias": {"x": 1}}, "token id"),
        ({"logit_bias": {"999999": 1}}, "999999"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "image_url",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "nope"),
        ({"tool_choice": "required"}, "tool"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"top_logprobs": 3}, "logprobs"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    client: openai.OpenAI, change: dict[str, Any], reason: str
) -> None:
    body = {"messages": HELLO, **GREEDY, **change}
    with pytest.raises(openai.BadRequestError, match=reason):
        client.post("/chat/completions", body=body, cast_to=object)


def test_an_unknown_model_is_not_found_and_a_near_one_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'smollm2'"):
        client.chat.completions.create(messages=HELLO, **{**GREEDY, "model": "smolm2"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_a_plain_400(client: openai.OpenAI, stream: bool) -> None:
    long: Any = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(messages=long, **GREEDY, stream=stream)
    assert "context" in str(caught.value)


@pytest.mark.parametrize("choices", [1, 2])
def test_closing_a_stream_frees_the_engine(
    client: openai.OpenAI, server: RunningServer, choices: int
) -> None:
    stream = client.chat.completions.create(
        messages=[{"role": "user", "content": "Write a long story."}], model="smollm2", temperature=0,
        max_tokens=900, stream=True, n=choices, extra_body={"logit_bias": {"2": -100}},
    )  # fmt: skip
    next(iter(stream))
    cancelled = server.figure("nomoat_answers_cancelled_total")
    stream.close()
    server.wait_until_idle()
    assert server.figure("nomoat_answers_cancelled_total") == cancelled + choices
    assert client.chat.completions.create(messages=HELLO, **GREEDY).choices[0].message.content
