"""A grammar that cannot be read costs its worker: streams end with an error, who has heard nothing is answered anew."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import psutil
import pytest
from running_server import RunningServer, StartServer

from engine_workers import workers_of

STORY: Any = [
    {"role": "user", "content": "Write a long story about a dragon and a castle."}
]  # more than 400 tokens
HELLO: Any = [{"role": "user", "content": "Say hello."}]
STREAM: Any = {"model": "smollm2", "stream": True, "extra_body": {"temperature": 0}}
SHORT: Any = {"model": "smollm2", "messages": HELLO, "temperature": 0, "max_tokens": 8}
UNREADABLE = {"prompt": "x", "grammar": "root ::= x{0,1999}\nx ::= y{0,1999}\ny ::= [a-z]{0,1999}"}


@pytest.fixture
def server_of_five(start_server: StartServer) -> Iterator[RunningServer]:
    server = start_server("--parallel", "5")
    (before,) = workers_of(server.process.pid)
    yield server
    (after,) = workers_of(server.process.pid)
    assert after.pid != before.pid and not psutil.pid_exists(before.pid)


def test_begun_streams_end_in_errors_and_all_others_are_answered(server_of_five: RunningServer) -> None:
    url = server_of_five.url
    gpt = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    llama = ollama.Client(host=url)
    chat = gpt.chat.completions.create(**STREAM, messages=STORY, max_tokens=400)
    message = claude.messages.create(**STREAM, messages=STORY, max_tokens=400)
    response = gpt.responses.create(**STREAM, input=STORY, max_output_tokens=400)
    options = {"num_predict": 400, "temperature": 0}
    lines = iter(llama.chat("smollm2", messages=STORY, stream=True, options=options))
    for stream in (chat, message, response, lines):
        next(stream)
    with gpt, claude, concurrent.futures.ThreadPoolExecutor(8) as pool:
        refused = pool.submit(server_of_five.post, "/v1/completions", UNREADABLE)
        time.sleep(1)  # now it has the last place, and its grammar the worker
        asked = [
            pool.submit(server_of_five.post, "/v1/chat/completions", SHORT),
            pool.submit(server_of_five.post, "/v1/messages", {**SHORT, "stream": True}),
            pool.submit(server_of_five.post, "/v1/embeddings", {"input": "x"}),
            pool.submit(server_of_five.post, "/v1/messages/count_tokens", SHORT),
        ]
        suspect = pool.submit(
            server_of_five.post, "/v1/completions", {"prompt": "x", "grammar": 'root ::= "a"'}
        )
        with pytest.raises(openai.APIError, match="worker ended") as told:
            list(chat)
        assert (told.value.code, told.value.type) == ("engine_failed", "server_error")
        with pytest.raises(anthropic.APIStatusError, match="worker ended") as heard:
            list(message)
        assert heard.value.type == "api_error"
        last = list(response)[-1]
        assert last.type == "response.failed" and last.response.error
        assert last.response.error.code == "server_error"
        with pytest.raises(ollama.ResponseError, match="worker ended"):
            list(lines)
    assert refused.result().status_code == 400 and "too many ways" in refused.result().text
    assert suspect.result().status_code == 503  # another grammar could end the next worker
    assert [answer.result().status_code for answer in asked] == [200] * len(asked)
    assert asked[0].result().json()["choices"][0]["message"]["content"]
    assert "message_stop" in asked[1].result().text
