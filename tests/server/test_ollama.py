"""Ollama's API, asked for by Ollama's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import numpy as np
import ollama
import pytest
from running_server import RunningServer, StartServer

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.ollama.embeddings import shortened

HELLO: Any = [{"role": "user", "content": "Say hello to the world."}]
GREEDY: Any = {"temperature": 0, "num_predict": 8}
CITY: Any = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
WEATHER: Any = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city.", "parameters": CITY,
}}  # fmt: skip


@pytest.fixture
def llama(server: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(host=server.url, timeout=60)
    yield client
    client.close()


def _greedy(engine: Engine) -> str:
    return engine.chat(HELLO, SamplingParams(temperature=0, max_tokens=8)).text()


def test_an_answer_is_what_the_engine_says(llama: ollama.Client, engine: Engine) -> None:
    answer = llama.chat("smollm2:latest", messages=HELLO, options=GREEDY)
    assert answer.message.content == _greedy(engine)
    assert (answer.model, answer.done, answer.done_reason) == ("smollm2:latest", True, "length")
    assert (answer.prompt_eval_count, answer.eval_count) == (len(engine.encode_chat(HELLO)), 8)
    assert answer.total_duration and answer.eval_duration
    assert answer.total_duration >= answer.eval_duration > 0


def test_a_stream_says_the_same_in_lines(llama: ollama.Client, engine: Engine) -> None:
    parts = list(llama.chat("smollm2", messages=HELLO, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == _greedy(engine)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 8


def test_answers_are_streamed_unless_told_otherwise(server: RunningServer) -> None:
    response = server.post("/api/chat", {"model": "smollm2", "messages": HELLO, "options": GREEDY})
    assert response.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines[-1]["done"] and not lines[0]["done"]


def test_a_prompt_is_answered_in_the_models_own_form(llama: ollama.Client, engine: Engine) -> None:
    prompt = HELLO[0]["content"]
    assert llama.generate("smollm2", prompt, options=GREEDY).response == _greedy(engine)
    system: Any = [{"role": "system", "content": "You are a pirate."}, *HELLO]
    told = llama.generate("smollm2", prompt, system="You are a pirate.", options=GREEDY)
    assert told.response and told.prompt_eval_count == len(engine.encode_chat(system))


def test_a_raw_prompt_is_continued_as_it_is(llama: ollama.Client, engine: Engine) -> None:
    text = "The capital of France is"
    raw = llama.generate("smollm2", text, raw=True, options=GREEDY)
    assert raw.response == engine.generate(text, SamplingParams(temperature=0, max_tokens=8)).text()
    assert raw.context is None


def test_a_context_continues_the_conversation(llama: ollama.Client, engine: Engine) -> None:
    first = llama.generate("smollm2", "My name is Ada.", options=GREEDY)
    assert first.context
    assert first.context[: first.prompt_eval_count] == engine.encode_chat(
        [{"role": "user", "content": "My name is Ada."}]
    )
    second = llama.generate("smollm2", "What is my name?", context=first.context, options=GREEDY)
    conversation = [{"role": "user", "content": "My name is Ada."},
                    {"role": "assistant", "content": first.response or ""},
                    {"role": "user", "content": "What is my name?"}]  # fmt: skip
    assert second.context and second.context[: len(first.context)] == first.context
    prompt = second.context[: second.prompt_eval_count]
    assert engine.detokenize(prompt) == engine.detokenize(engine.encode_chat(conversation))


def test_a_begun_answer_goes_on(llama: ollama.Client, engine: Engine) -> None:
    begun = {"role": "assistant", "content": "Hello and welcome to"}
    answer = llama.chat("smollm2", messages=[*HELLO, begun], options=GREEDY)
    tokens = engine.encode_chat(HELLO) + engine.encode(begun["content"])
    assert answer.message.content and answer.prompt_eval_count == len(tokens)


def test_stop_and_seed_are_kept(llama: ollama.Client) -> None:
    plain = llama.chat("smollm2", messages=HELLO, options={**GREEDY, "num_predict": 12}).message.content or ""
    word = plain.split()[1]
    stopped = llama.chat("smollm2", messages=HELLO, options={**GREEDY, "num_predict": 12, "stop": [word]})
    assert (stopped.message.content, stopped.done_reason) == (plain.partition(word)[0], "stop")
    wild = {"temperature": 1.5, "seed": 3, "num_predict": 8, "num_ctx": 4096, "num_thread": 8}
    one, other = (llama.chat("smollm2", messages=HELLO, options=wild).message.content for _ in range(2))
    assert one == other


def test_log_probabilities_come_for_every_token(llama: ollama.Client) -> None:
    answer = llama.chat("smollm2", messages=HELLO, options=GREEDY, logprobs=True, top_logprobs=2)
    assert answer.logprobs and len(answer.logprobs) == 8
    assert "".join(entry.token for entry in answer.logprobs) == answer.message.content
    assert all(entry.top_logprobs and len(entry.top_logprobs) == 2 for entry in answer.logprobs)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_obeys_a_schema(llama: ollama.Client, stream: bool) -> None:
    question = [{"role": "user", "content": "Name a city."}]
    options = {**GREEDY, "num_predict": 60}
    answer: Any = llama.chat("smollm2", messages=question, format=CITY, options=options, stream=stream)
    text = "".join(part.message.content for part in answer) if stream else answer.message.content
    jsonschema_rs.validate(CITY, json.loads(text))


def test_json_is_an_object(llama: ollama.Client) -> None:
    answer = llama.generate(
        "smollm2", "Answer with {}.", format="json", options={**GREEDY, "num_predict": 40}
    )
    assert (answer.response or "").startswith("{")


# -- tools ---------------------------------------------------------------------------------------------


def test_calls_and_their_results_are_part_of_the_conversation(llama: ollama.Client) -> None:
    conversation: Any = [
        {"role": "user", "content": "Will it rain in Paris?"},
        {"role": "assistant", "tool_calls": [
            {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
        ]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny, 21 degrees"},
    ]  # fmt: skip
    answer = llama.chat("smollm2", messages=conversation, tools=[WEATHER], options=GREEDY)
    assert answer.message.content or answer.message.tool_calls


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_calls_a_tool(llama: ollama.Client, stream: bool) -> None:
    conversation: Any = []  # two calls to copy: without them a model of this size calls nothing
    for city in ("Paris", "London"):
        call = {"function": {"name": "get_weather", "arguments": {"city": city}}}
        conversation += [
            {"role": "user", "content": f"What is the weather in {city}?"},
            {"role": "assistant", "tool_calls": [call]},
        ]
    conversation.append({"role": "user", "content": "What is the weather in Rome?"})
    options = {**GREEDY, "num_predict": 60}
    answer: Any = llama.chat(
        "smollm2", messages=conversation, tools=[WEATHER], options=options, stream=stream
    )
    parts = list(answer) if stream else [answer]
    (call,) = [call for part in parts for call in part.message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Rome"})
    assert not any(part.message.content for part in parts)
    assert parts[-1].done_reason == "stop"


# -- what is installed ---------------------------------------------------------------------------------


def test_what_is_installed_is_listed_and_shown(llama: ollama.Client, server: RunningServer) -> None:
    names = [model.model for model in llama.list().models]
    assert names == ["smollm2:latest", "smollm2+me:latest"]
    shown = llama.show("smollm2")
    assert shown.details and shown.details.format == "gguf" and shown.details.family == "llama"
    assert shown.details.parameter_size == "134.52M"
    assert shown.modelinfo and shown.modelinfo["general.architecture"] == "llama"
    assert "tokenizer.ggml.tokens" not in shown.modelinfo
    assert shown.capabilities and "tools" in shown.capabilities
    verbose = server.post("/api/show", {"name": "smollm2", "verbose": True}).json()
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == 49152
    assert server.get("/api/version").json()["version"]
    assert server.get("/").status_code == 200


def test_what_runs_is_listed(llama: ollama.Client) -> None:
    llama.generate("smollm2", "")  # only loads
    (running,) = llama.ps().models
    assert (running.model, running.context_length) == ("smollm2:latest", 1024)


@pytest.mark.parametrize("keep_alive", [0, "0m"])
def test_a_model_that_is_kept_for_no_time_gives_its_memory_back(
    start_server: StartServer, keep_alive: float | str
) -> None:
    """As `ollama stop` asks. The next request loads it again; an answer of somebody else is never ended."""
    with ollama.Client(host=start_server().url, timeout=60) as own:
        talk = own.chat("smollm2", messages=HELLO, stream=True)
        next(iter(talk))
        with pytest.raises(ollama.ResponseError) as busy:
            own.generate("smollm2", keep_alive=keep_alive)
        assert busy.value.status_code == 429
        assert [model.model for model in own.ps().models] == ["smollm2:latest"]
        assert list(talk)[-1].done
        assert own.generate("smollm2:latest", keep_alive=keep_alive).done_reason == "unload"
        assert own.ps().models == []
        assert own.chat("smollm2", messages=HELLO, options=GREEDY).message.content
        assert len(own.ps().models) == 1


def test_an_adapter_is_a_part_of_the_name(llama: ollama.Client) -> None:
    plain = llama.chat("smollm2", messages=HELLO, options=GREEDY)
    adapted = llama.chat("smollm2+me:latest", messages=HELLO, options=GREEDY)
    assert adapted.message.content != plain.message.content


def test_texts_become_vectors(llama: ollama.Client, engine: Engine) -> None:
    rows = np.array(llama.embed("smollm2", ["a cat", "a dog"]).embeddings)
    np.testing.assert_allclose(rows, engine.embed(["a cat", "a dog"]), atol=1e-3)
    np.testing.assert_allclose(llama.embeddings("smollm2", "a cat").embedding, rows[0], atol=1e-3)
    short = np.array(llama.embed("smollm2", "a cat", dimensions=16).embeddings)
    assert short.shape == (1, 16)
    np.testing.assert_allclose(np.linalg.norm(short), 1, atol=1e-5)


def test_the_end_of_a_long_text_is_cut_unless_told_otherwise(
    start_server: StartServer, engine: Engine
) -> None:
    llama, context = ollama.Client(host=start_server("--context-length", "64").url), 64
    texts = ["one two three " * 100, "a cat"]
    kept = [engine.encode(text, add_special=True)[:context] for text in texts]
    for truncate in (None, True):
        answer = llama.embed("smollm2", texts, truncate=truncate)
        np.testing.assert_allclose(np.array(answer.embeddings), engine.embed(kept), atol=1e-3)
        assert answer.prompt_eval_count == context + len(kept[1])
    with pytest.raises(ollama.ResponseError, match=r"input 0 has .* embeddings take 64") as refused:
        llama.embed("smollm2", texts, truncate=False)
    assert refused.value.status_code == 400
    llama.close()


@pytest.mark.parametrize(
    ("special", "kept"),
    [([], [5, 6, 7, 8]), ([5], [5, 6, 7, 8]), ([5, 2], [5, 6, 7, 2]), ([2], [5, 6, 7, 2])],
)
def test_a_cut_text_keeps_the_models_last_token(special: list[int], kept: list[int]) -> None:
    assert shortened([5, 6, 7, 8, 9, 2], 4, special) == kept
    assert shortened([5, 6, 7, 2], 4, special) == [5, 6, 7, 2]


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "change", "status", "reason"),
    [
        ("chat", {"model": "nope"}, 404, "nope"),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400, "pictures"),
        ("chat", {"think": True}, 400, "thinking"),
        ("chat", {"format": "yaml"}, 400, "yaml"),
        ("chat", {"options": {"mirostat": 2}}, 400, "mirostat"),
        ("chat", {"options": {"temperature": "hot"}}, 400, "temperature"),
        ("chat", {"messages": [{"role": "user", "content": "word " * 2000}]}, 400, "context"),
        ("generate", {"prompt": "x", "suffix": "y"}, 400, "fill in the middle"),
        ("generate", {"prompt": "x", "template": "y"}, 400, "template"),
        ("generate", {"prompt": "x", "raw": True, "system": "y"}, 400, "raw"),
        ("generate", {"prompt": "x", "context": [99999999]}, 400, "99999999"),
        ("embed", {"input": ["word " * 2000], "truncate": False}, 400, "embeddings take 1,024"),
        ("embeddings", {"prompt": "word " * 2000}, 400, "embeddings take 1,024"),
        ("embed", {"input": "x", "dimensions": 100000}, 400, "dimensions"),
        ("pull", {"model": "llama9"}, 404, "nomoat import"),
        ("push", {}, 400, "nomoat export"),
        ("create", {}, 400, "nomoat import"),
        ("copy", {}, 400, "nomoat cp"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    server: RunningServer, path: str, change: dict[str, Any], status: int, reason: str
) -> None:
    body = {"model": "smollm2", **({"messages": HELLO} if path == "chat" else {}), **change}
    response = server.post(f"/api/{path}", body)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"] and reason in response.json()["error"]


def test_errors_are_the_clients_own(llama: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        llama.chat("nope", messages=HELLO)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="nomoat rm") as refused:
        llama.delete("smollm2")
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="did you mean 'smollm2'"):
        list(llama.chat("smolm2", messages=HELLO, stream=True))


def test_a_model_that_is_here_need_not_be_pulled(llama: ollama.Client) -> None:
    assert llama.pull("smollm2").status == "success"
    assert [part.status for part in llama.pull("smollm2:latest", stream=True)] == ["success"]


def test_closing_a_stream_frees_the_engine(llama: ollama.Client, server: RunningServer) -> None:
    long: Any = [{"role": "user", "content": "Count from one to a thousand, in words."}]
    cancelled = server.figure("nomoat_answers_cancelled_total")
    stream = llama.chat("smollm2", messages=long, options={"temperature": 0, "num_predict": 900}, stream=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    server.wait_until_idle()
    assert server.figure("nomoat_answers_cancelled_total") == cancelled + 1
