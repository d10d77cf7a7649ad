"""Completions and embeddings: token ids, echo, and log-probabilities that evaluation tools can trust."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import openai
import pytest
from running_server import RunningServer, StartServer

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

TEXT = "The capital of France is Paris. Paris is ☃ large."
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_tokens": 6}


def test_text_and_token_ids_are_the_same_prompt(start_server: StartServer, engine: Engine) -> None:
    ids = engine.encode(TEXT, add_special=True)
    # A server of its own: in one that has worked for long, an answer may lie around the end of the KV memory. Its sums
    # then have another order, and this prompt's fourth token is nearly a tie.
    with openai.OpenAI(
        base_url=f"{start_server().url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        by_text = client.completions.create(prompt=TEXT, **GREEDY)
        by_ids = client.completions.create(prompt=ids, **GREEDY)
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert (
        by_text.choices[0].text == engine.generate(TEXT, SamplingParams(temperature=0, max_tokens=6)).text()
    )
    assert by_text.usage and by_text.usage.prompt_tokens == len(ids)


def test_many_prompts_are_answered_in_order(client: openai.OpenAI, engine: Engine) -> None:
    texts = ["1, 2, 3, 4, 5,", "a, b, c, d, e,", "Monday, Tuesday, Wednesday,"]
    answers = client.completions.create(prompt=texts, **GREEDY)
    assert [choice.index for choice in answers.choices] == [0, 1, 2]
    alone = [client.completions.create(prompt=text, **GREEDY).choices[0].text for text in texts]
    assert [choice.text for choice in answers.choices] == alone
    by_ids = client.completions.create(
        prompt=[engine.encode(text, add_special=True) for text in texts], **GREEDY
    )
    assert [choice.text for choice in by_ids.choices] == alone


def test_an_echo_scores_the_prompt_as_the_engine_does(client: openai.OpenAI, engine: Engine) -> None:
    ids = engine.encode(TEXT, add_special=True)
    answer = client.completions.create(prompt=ids, **{**GREEDY, "max_tokens": 1}, logprobs=1, echo=True)
    table = answer.choices[0].logprobs
    assert table and table.token_logprobs and table.top_logprobs and table.tokens and table.text_offset
    assert len(table.token_logprobs) == len(table.tokens) == len(table.text_offset) == len(ids) + 1
    scores: Any = table.token_logprobs
    assert scores[0] is None
    np.testing.assert_allclose(scores[1:-1], engine.token_logprobs(ids), atol=0.02)
    assert answer.choices[0].text.startswith(TEXT)
    for offset, token in zip(table.text_offset, table.tokens, strict=True):
        if not token.startswith("bytes:"):
            assert answer.choices[0].text[offset : offset + len(token)] == token


def test_the_likeliest_token_has_the_very_number_of_its_column(client: openai.OpenAI) -> None:
    """lm_eval compares the two for equality to see what greedy decoding would have said."""
    answer = client.completions.create(prompt="1, 2, 3, 4, 5, 6, 7, 8, 9,", **{**GREEDY, "max_tokens": 1},
                                       logprobs=1, echo=True)  # fmt: skip
    table = answer.choices[0].logprobs
    assert table and table.token_logprobs and table.top_logprobs
    pairs = list(zip(table.token_logprobs[1:], table.top_logprobs[1:], strict=True))
    assert sum(score == max(top.values()) for score, top in pairs) > len(pairs) / 2


def test_scoring_alone_makes_no_token(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.completions.create(prompt=TEXT, **{**GREEDY, "max_tokens": 0}, logprobs=0, echo=True)
    table = answer.choices[0].logprobs
    assert answer.choices[0].text == TEXT
    assert table and table.tokens and len(table.tokens) == len(engine.encode(TEXT, add_special=True))
    assert answer.usage and answer.usage.completion_tokens == 0


def test_scoring_gives_one_more_token_even_where_the_model_would_end(
    client: openai.OpenAI, engine: Engine
) -> None:
    ids = engine.encode_chat([{"role": "user", "content": "Hi"}])
    ids = ids + engine.encode("Hello! How can I help you today?")
    answer = client.completions.create(prompt=ids, **{**GREEDY, "max_tokens": 1}, logprobs=1, echo=True)
    table = answer.choices[0].logprobs
    assert table and table.token_logprobs and len(table.token_logprobs) == len(ids) + 1


def test_a_completion_is_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(prompt=TEXT, **GREEDY, logprobs=2)
    parts = list(client.completions.create(prompt=TEXT, **GREEDY, logprobs=2, stream=True))
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    tokens = [t for part in parts if part.choices[0].logprobs for t in part.choices[0].logprobs.tokens or []]
    assert whole.choices[0].logprobs and tokens == whole.choices[0].logprobs.tokens
    assert parts[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": []}, "prompts"), ({"prompt": [1, "a"]}, "prompt"), ({"prompt": [[1], 2]}, "prompt"),
        ({"prompt": [[]]}, "empty"), ({"prompt": ""}, "empty"), ({"prompt": [999999]}, "999999"),
        ({"prompt": [-1]}, "-1"), ({"suffix": "end"}, "fill in the middle"), ({"best_of": 3}, "best_of"),
        ({"prompt": 5}, "prompt"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_completed_is_refused(
    client: openai.OpenAI, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason):
        client.post("/completions", body={"prompt": "x", **GREEDY, **change}, cast_to=object)


# -- tokens and vectors --------------------------------------------------------------------------------


def test_tokens_go_there_and_back(server: RunningServer, engine: Engine) -> None:
    answer = server.post("/tokenize", {"prompt": TEXT, "add_special_tokens": False}).json()
    assert answer["tokens"] == engine.encode(TEXT)
    assert answer["count"] == len(answer["tokens"])
    assert server.post("/tokenize", {"content": TEXT}).json()["tokens"] == answer["tokens"]
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json()["prompt"] == TEXT


def test_pieces_of_characters_are_bytes(server: RunningServer, engine: Engine) -> None:
    answer = server.post("/tokenize", {"content": [1, "a \U0001d518"], "with_pieces": True}).json()
    ids = [token["id"] for token in answer["tokens"]]
    assert ids == [1, *engine.encode("a \U0001d518")] and answer["count"] == len(ids)
    pieces = [token["piece"] for token in answer["tokens"]]
    assert pieces[:2] == ["<|im_start|>", "a"]
    assert b"".join(bytes(p) for p in pieces if isinstance(p, list)).decode() == "\U0001d518"


def test_a_stream_tells_figures_where_they_are_wanted(server: RunningServer) -> None:
    body = {"prompt": TEXT, **GREEDY, "max_tokens": 6, "stream": True}
    told = {"timings_per_token": True, "return_progress": True}
    lines = server.post("/v1/completions", {**body, **told}).text.split("\n\n")
    parts = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    progress = [part["prompt_progress"] for part in parts if "prompt_progress" in part]
    assert progress[0]["total"] == progress[-1]["processed"] > progress[0]["processed"]
    counts = [part["timings"]["predicted_n"] for part in parts]
    assert counts == sorted(counts) and (counts[0], counts[-1]) == (0, 6)
    assert "prompt_progress" not in server.post("/v1/completions", body).text


def test_the_tokenizer_describes_itself(server: RunningServer, engine: Engine) -> None:
    info = server.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>"
    assert server.post("/tokenize", {"prompt": info["eos_token"]}).json()["tokens"] == [
        engine.model.eos_token_id
    ]
    assert "{%" in info["chat_template"]


def test_embeddings_are_the_engines(client: openai.OpenAI, engine: Engine) -> None:
    texts = ["a small boat", "a little ship"]
    answer = client.embeddings.create(model="smollm2", input=texts, encoding_format="float")
    rows = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_allclose(rows, engine.embed(texts), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


def test_embeddings_take_token_ids_and_give_base64(server: RunningServer, engine: Engine) -> None:
    body = {"input": engine.encode("a small boat", add_special=True), "encoding_format": "base64"}
    (item,) = server.post("/v1/embeddings", body).json()["data"]
    row = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
    np.testing.assert_allclose(row, engine.embed(["a small boat"])[0], atol=1e-3)
