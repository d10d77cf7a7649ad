"""Errors as the clients of OpenAI and Anthropic read them: class, status, `type`, `code` and `param`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from running_server import RunningServer, StartServer

HELLO: Any = [{"role": "user", "content": "Say hello."}]
LONG = "word " * 2000
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
UNSAYABLE: Any = {"type": "array", "uniqueItems": True}


@pytest.fixture
def claude(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def _refused(client: openai.OpenAI, path: str, body: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        client.post(path, body=body, cast_to=object)
    return caught.value


# -- OpenAI --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": HELLO}), ("/completions", {"prompt": "x"}), ("/responses", {"input": "x"}),
        ("/embeddings", {"input": "x"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("model", ["gpt-9", "smollm2+nobody"])
def test_an_unknown_model_has_openais_code(client: openai.OpenAI, path: str, body: Any, model: str) -> None:
    error = _refused(client, path, {"model": model, **body})
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")


def test_any_model_is_the_first_one_where_the_server_was_told_so(start_server: StartServer) -> None:
    server = start_server("--any-model")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        answers = [
            client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=4)
            for model in ("gpt-3.5-turbo", "smollm2")
        ]
        assert answers[0].choices[0].message == answers[1].choices[0].message
        assert [answer.model for answer in answers] == ["smollm2", "smollm2"]
        assert client.embeddings.create(model="text-embedding-3-small", input="x").model == "smollm2"
        assert _refused(client, "/completions", {"model": "gpt-9+nobody", "prompt": "x"}).status_code == 404
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")
    for path, body in (("/completion", {"prompt": "x", "n_predict": 1}), ("/tokenize", {"content": "x"})):
        assert server.post(path, {**body, "model": "gpt-9"}).status_code == 200


def test_whoever_names_an_unknown_model_learns_what_there_is(client: openai.OpenAI) -> None:
    error = _refused(client, "/completions", {"model": "gpt-9", "prompt": "x"})
    assert "this server has: smollm2" in error.message and "--any-model" in error.message


def test_an_unknown_model_cannot_be_retrieved(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ("/completions", {"prompt": LONG}, "prompt"),
        ("/completions", {"prompt": LONG, "echo": True, "logprobs": 0, "max_tokens": 0}, "prompt"),
        ("/responses", {"input": LONG}, "input"),
        ("/embeddings", {"input": LONG}, "input"),
    ],
    ids=["chat", "completions", "scores", "responses", "embeddings"],
)
def test_a_prompt_that_is_too_long_has_openais_code(
    client: openai.OpenAI, path: str, body: Any, param: str
) -> None:
    error = _refused(client, path, {"model": "smollm2", **body})
    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.param, error.type) == (
        "context_length_exceeded",
        param,
        "invalid_request_error",
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"), ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": 5, "content": "x"}]}, "messages[0].role"), ({"temperature": 1000}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"), ({"n": 0}, "n"), ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"), ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": UNSAYABLE}}],
          "tool_choice": "required"}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": UNSAYABLE}}},
         "response_format"),
        ({"adapters": [{"name": "nobody"}]}, "adapters"), ({"model": "smollm2+me:1e9"}, "model"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_field_is_named(client: openai.OpenAI, change: dict[str, Any], param: str) -> None:
    body = {"model": "smollm2", "messages": HELLO, "max_tokens": 1, **change}
    error = _refused(client, "/chat/completions", {k: v for k, v in body.items() if v is not None})
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert error.status_code == (404 if param == "adapters" else 400)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"text": {"format": {"type": "json_schema", "name": "s", "schema": UNSAYABLE}}}, "text.format"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_field_of_a_response_is_named(client: openai.OpenAI, change: Any, param: str) -> None:
    error = _refused(client, "/responses", {"model": "smollm2", "input": "x", **change})
    assert (error.status_code, error.param, error.type) == (400, param, "invalid_request_error")


def test_a_wrong_key_has_the_codes_of_both(start_server: StartServer, tmp_path: Any) -> None:
    (tmp_path / "keys").write_text("secret\n")
    url = start_server("--api-key-file", str(tmp_path / "keys")).url
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model="smollm2", messages=HELLO)
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
    with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as claude:
        for ask in (
            claude.models.list,
            lambda: claude.messages.create(model="x", messages=HELLO, max_tokens=1),
        ):
            with pytest.raises(anthropic.AuthenticationError) as told:
                ask()
            assert told.value.type == "authentication_error"


def test_a_full_queue_is_a_rate_limit_to_both(start_server: StartServer) -> None:
    server = start_server("--parallel", "1", "--queue", "1")
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude,
    ):
        endless: Any = {"messages": HELLO, "model": "smollm2", "extra_body": {"logit_bias": {"2": -100}}}
        running = client.chat.completions.create(**endless, stream=True)
        next(running)
        waiting = threading.Thread(target=lambda: _left(client, endless))
        waiting.start()
        _wait_for_queue(server)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**endless)
        with pytest.raises(anthropic.RateLimitError) as told:
            claude.messages.create(model="smollm2", messages=HELLO, max_tokens=1)
        running.close()
        waiting.join()
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
    assert told.value.type == "rate_limit_error"
    assert int(told.value.response.headers["retry-after"]) >= 1


def _left(client: openai.OpenAI, request: Any) -> None:
    client.chat.completions.create(**request, stream=True).close()


def _wait_for_queue(server: RunningServer) -> None:
    while not server.figure("nomoat_engine_waiting"):
        pass


# -- Anthropic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"model": "claude-9"}, 404, "not_found_error"), ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": LONG}]}, 400, "invalid_request_error"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_has_anthropics_type(
    claude: anthropic.Anthropic, change: Any, status: int, kind: str, stream: bool
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.create(
            **{"model": "smollm2", "messages": HELLO, "max_tokens": 1, **change}, stream=stream
        )
    assert (caught.value.status_code, caught.value.type) == (status, kind)


def test_other_addresses_answer_anthropics_client_in_its_words(claude: anthropic.Anthropic) -> None:
    for ask in (lambda: claude.models.retrieve("claude-9"), lambda: claude.messages.batches.list()):
        with pytest.raises(anthropic.NotFoundError) as caught:
            ask()
        assert caught.value.type == "not_found_error"
