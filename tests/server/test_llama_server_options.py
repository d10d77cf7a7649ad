"""What llama-server's README promises at OpenAI's addresses beyond OpenAI's own fields."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from running_server import RunningServer

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

HELLO: Any = [{"role": "user", "content": "Say hello to the world."}]
GREEDY: Any = {"temperature": 0, "max_tokens": 8}
LENGTH: Any = {
    "type": "object", "properties": {"km": {"type": "integer", "minimum": 0, "maximum": 9999}},
    "required": ["km"], "additionalProperties": False,
}  # fmt: skip
BEGUN: Any = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "The colour bl"},
]


def chat(server: RunningServer, **fields: Any) -> Any:
    answer = server.post("/v1/chat/completions", {"messages": HELLO, **GREEDY, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- the form of an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [
    {"response_format": {"type": "json_object", "schema": LENGTH}},
    {"response_format": {"type": "json_schema", "schema": LENGTH}},
    {"json_schema": LENGTH},
])  # fmt: skip
def test_a_schema_counts_wherever_llama_server_takes_it(
    server: RunningServer, fields: dict[str, Any]
) -> None:
    answer = chat(server, max_tokens=40, **fields)
    assert list(json.loads(answer["choices"][0]["message"]["content"])) == ["km"]


def test_a_completion_obeys_a_schema(server: RunningServer) -> None:
    body = {"prompt": "The Rhine in JSON: ", "max_tokens": 40, "temperature": 0, "json_schema": LENGTH}
    text = server.post("/v1/completions", body).json()["choices"][0]["text"]
    assert list(json.loads(text)) == ["km"]


def test_a_schema_that_no_grammar_can_say_is_blamed_on_its_field(server: RunningServer) -> None:
    answer = server.post("/v1/chat/completions", {"messages": HELLO, "json_schema": {"not": {}}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "json_schema")


# -- how tokens are chosen ------------------------------------------------------------------------------


def test_an_answer_whose_end_is_ignored_is_as_long_as_was_asked(server: RunningServer) -> None:
    """Load generators count on it."""
    ended = chat(server, max_tokens=60)
    assert ended["choices"][0]["finish_reason"] == "stop"
    whole = chat(server, max_tokens=60, ignore_eos=True)
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("length", 60)


def test_the_limit_may_have_llama_servers_name(server: RunningServer) -> None:
    assert chat(server, max_tokens=None, n_predict=3)["usage"]["completion_tokens"] == 3


def test_a_bias_may_be_a_pair_and_false_means_never(server: RunningServer, engine: Engine) -> None:
    first = engine.chat(HELLO, SamplingParams(temperature=0, max_tokens=1))
    (unwanted,) = engine.encode(first.text())
    (wanted,) = engine.encode(" blue")
    never = chat(server, logit_bias=[[unwanted, False]])["choices"][0]["message"]["content"]
    assert not never.startswith(engine.detokenize([unwanted]))
    assert (
        chat(server, logit_bias=[[wanted, 100]], max_tokens=2)["choices"][0]["message"]["content"]
        == " blue" * 2
    )


def test_only_the_samplers_that_are_named_are_used(server: RunningServer) -> None:
    """Without any sampler the likeliest is not taken for sure; with `top_k` 1 alone it is."""
    one = {"temperature": 5, "top_k": 1, "seed": 3}
    likeliest = chat(server)["choices"][0]["message"]["content"]
    assert chat(server, samplers=["top_k"], **one)["choices"][0]["message"]["content"] == likeliest
    assert chat(server, samplers=["temperature"], **one)["choices"][0]["message"]["content"] != likeliest


def test_minus_one_draws_a_seed_and_takes_all_tokens(server: RunningServer) -> None:
    drawn = {
        chat(server, temperature=2, seed=-1, top_k=-1)["choices"][0]["message"]["content"] for _ in range(4)
    }
    assert len(drawn) > 1


@pytest.mark.parametrize("path", ["/v1/completions", "/completion", "/api/generate"])
def test_minus_one_penalises_every_token(server: RunningServer, path: str) -> None:
    """Of a text that is longer than the window of 64 tokens."""
    prompt = "one " + "two three four five six seven " * 15

    def told(window: int) -> str:
        fields = {"temperature": 0, "repeat_penalty": 100, "logit_bias": {}, "repeat_last_n": window}
        ollama = {"options": {**fields, "num_predict": 4}, "raw": True, "stream": False, "model": "smollm2"}
        body = {"prompt": prompt, "max_tokens": 4, **(ollama if "api" in path else fields)}
        answer = server.post(path, body).json()
        return str(answer.get("response") or answer.get("content") or answer["choices"][0]["text"])

    assert told(-1) == told(512)


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 3.0, "top_k": 40.0}),
    ("/api/chat", {"model": "smollm2", "messages": HELLO, "stream": False,
                   "options": {"num_predict": 3.0, "top_k": 4e1}}),
])  # fmt: skip
def test_a_whole_number_may_have_a_point(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    """As sliders and spreadsheets write them; half a token is none."""
    assert server.post(path, body).status_code == 200
    broken = server.post(path, {**body, "max_tokens": 3.5, "options": {"num_predict": 3.5}})
    assert (broken.status_code, "got `float`" in broken.text) == (400, True)


@pytest.mark.parametrize(("fields", "param"), [
    ({"mirostat": 2}, "mirostat"), ({"dry_multiplier": 0.8}, "dry_multiplier"), ({"typical_p": 0.5}, "typical_p"),
    ({"lora": [{"id": 0, "scale": 1}]}, "lora"), ({"n_probs": 3}, "n_probs"),
    ({"post_sampling_probs": True}, "post_sampling_probs"), ({"samplers": ["top_p", "top_k"]}, "samplers"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_what_would_change_the_answer_and_is_not_there_is_refused(
    server: RunningServer, path: str, fields: dict[str, Any], param: str
) -> None:
    answer = server.post(path, {"messages": HELLO, "prompt": "Hello", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "(" in answer.json()["error"]["message"] or ":" in answer.json()["error"]["message"]  # a remedy


def test_what_is_switched_off_may_be_sent(server: RunningServer) -> None:
    off = {
        "mirostat": 0,
        "dry_multiplier": 0,
        "typical_p": 1.0,
        "xtc_probability": 0,
        "lora": [],
        "n_probs": 0,
    }
    assert chat(server, **off)["choices"] == chat(server)["choices"]


def test_a_prompt_may_be_computed_anew(server: RunningServer) -> None:
    chat(server)
    assert chat(server)["timings"]["cache_n"] > 0
    assert chat(server, cache_prompt=False)["timings"]["cache_n"] == 0


# -- an answer that is begun ----------------------------------------------------------------------------


def test_an_answer_goes_on_with_its_beginning(client: openai.OpenAI, engine: Engine) -> None:
    tokens = [*engine.encode_chat(BEGUN[:1]), *engine.encode("The colour bl")]
    more = engine.generate(tokens, SamplingParams(temperature=0, max_tokens=8)).text()
    whole = client.chat.completions.create(model="smollm2", messages=BEGUN, **GREEDY)
    assert whole.choices[0].message.content == "The colour bl" + more
    stream = client.chat.completions.create(model="smollm2", messages=BEGUN, **GREEDY, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in stream) == "The colour bl" + more


def test_a_new_answer_may_be_wanted_instead(server: RunningServer, engine: Engine) -> None:
    answer = chat(server, messages=BEGUN, continue_final_message=False, add_generation_prompt=True)
    expected = engine.chat(BEGUN, SamplingParams(temperature=0, max_tokens=8)).text()
    assert answer["choices"][0]["message"]["content"] == expected


# -- counting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"])
def test_a_conversation_is_counted_without_an_answer(
    server: RunningServer, engine: Engine, path: str
) -> None:
    counted = server.post(path, {"messages": HELLO}).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": len(engine.encode_chat(HELLO))}


def test_openais_client_counts_what_a_response_would_read(client: openai.OpenAI, engine: Engine) -> None:
    counted = client.responses.input_tokens.count(model="smollm2", input="Say hello to the world.")
    assert counted.input_tokens == len(engine.encode_chat(HELLO))


def test_tokens_come_with_their_pieces(server: RunningServer) -> None:
    content = "Hé 🦙<|im_end|>"
    tokens = server.post("/tokenize", {"content": content, "with_pieces": True}).json()["tokens"]
    pieces = [
        bytes(each["piece"]) if isinstance(each["piece"], list) else each["piece"].encode() for each in tokens
    ]
    assert b"".join(pieces) == content.encode()
    assert any(isinstance(each["piece"], list) for each in tokens)  # a part of the llama
    plain = server.post("/tokenize", {"content": content}).json()["tokens"]
    assert [each["id"] for each in tokens] == plain
