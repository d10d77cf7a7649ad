"""What goes wrong between clients and the server leaves the server as it was."""

from __future__ import annotations

import concurrent.futures
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_server import CONTEXT_TOKENS, RunningServer, StartServer, write_adapter

from engine_workers import workers_of
from nomoat.base.server_records import read_records

HELLO: Any = [{"role": "user", "content": "Say hello."}]
LONG: Any = {"messages": HELLO, "max_tokens": 400, "temperature": 0, "logit_bias": {"2": -100}}
PIECES = [b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"null", b"1e999", b"-0", b"\xff\xfe", b"\x00",
          b'"messages"', b'"model"', b'"prompt"', b'"stop"', b'"tools"', b'"\\ud800"', b"true", b"9" * 40]  # fmt: skip
PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
    "/v1/adapters",
    "/v1/messages",
    "/v1/responses",
    "/api/chat",
    "/api/generate",
    "/api/show",
    "/completion",
    "/embedding",
    "/apply-template",
]


def _healthy(server: RunningServer) -> bool:
    answer = server.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2})
    return server.get("/health").json() == {"status": "ok"} and answer.status_code == 200


def test_malformed_requests_are_refused_and_forgotten(server: RunningServer) -> None:
    dice = random.Random(4)
    process = psutil.Process(server.process.pid)
    statuses: set[int] = set()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        before = 0
        for number in range(1000):
            body = b"".join(dice.choice(PIECES) for _ in range(dice.randrange(12)))
            statuses.add(client.post(dice.choice(PATHS), content=body).status_code)
            if number == 500:
                before = process.memory_info().rss
    assert statuses <= {400, 404}
    assert process.memory_info().rss < before + 20e6
    assert _healthy(server)


@pytest.mark.parametrize("raw", [
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n",
], ids=range(7))  # fmt: skip
def test_what_is_no_http_gets_a_4xx(server: RunningServer, raw: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        assert connection.recv(4096).startswith(b"HTTP/1.1 4")


def test_silent_connections_hinder_nobody(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port)), timeout=20) for _ in range(64)]
    try:
        for connection in silent[:32]:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Le")
        assert _healthy(server)
    finally:
        for connection in silent:
            connection.close()


def test_a_body_that_is_too_large_is_refused_unread(server: RunningServer) -> None:
    headers = {"Content-Length": str(10**12)}
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {headers['Content-Length']}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("path", "field", "tokens"), [
    ("/v1/chat/completions", "messages", "max_tokens"), ("/v1/completions", "prompt", "max_tokens"),
    ("/v1/responses", "input", "max_output_tokens"), ("/v1/messages", "messages", "max_tokens"),
    ("/api/chat", "messages", "num_predict"), ("/api/generate", "prompt", "num_predict"),
    ("/completion", "prompt", "n_predict"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_larger_than_the_context_is_refused(
    server: RunningServer, path: str, field: str, tokens: str, stream: bool
) -> None:
    text = "word " * (2 * CONTEXT_TOKENS)
    prompt = [{"role": "user", "content": text}] if field == "messages" else text
    answer = server.post(path, {"model": "smollm2", field: prompt, tokens: 4, "stream": stream})
    assert answer.status_code == 400
    assert f"the context holds {CONTEXT_TOKENS:,}" in answer.text


def test_memory_returns_to_its_level(server: RunningServer) -> None:
    process = psutil.Process(server.process.pid)

    def level_after(rounds: int) -> int:
        for number in range(rounds):
            with httpx.stream(
                "POST", server.url + "/v1/chat/completions", json={**LONG, "stream": True}
            ) as answer:
                next(answer.iter_lines())
            server.post("/v1/completions", {"prompt": f"{number} " * 10, "max_tokens": 1})
            server.post("/v1/completions", {"prompt": "word " * 2 * CONTEXT_TOKENS, "max_tokens": 1})
        server.wait_until_idle()
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    before = level_after(8)
    assert level_after(24) < before + 20e6


def test_a_client_that_leaves_before_its_answer_stops_the_work(server: RunningServer) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/chat/completions", json={**LONG, "max_tokens": 900}, timeout=0.5)
    server.wait_until_idle()


def test_many_clients_at_once_are_all_answered(server: RunningServer) -> None:
    body = {"prompt": "1, 2, 3, 4, 5, 6, 7,", "max_tokens": 4, "temperature": 0}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/completions", body), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["choices"][0]["text"].strip()[:1] for answer in answers} == {"8"}


def test_more_requests_than_may_wait_are_told_when_to_come_again(start_server: StartServer) -> None:
    server = start_server("--parallel", "1", "--queue", "1")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        body = {**LONG, "max_tokens": 60}
        answers = list(pool.map(lambda _: server.post("/v1/chat/completions", body), range(6)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and len(refused) < 6
    assert {answer.status_code for answer in answers} == {200, 429}
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"


def test_figures_can_be_read_by_prometheus(server: RunningServer) -> None:
    _healthy(server)
    families = {family.name: family for family in text_string_to_metric_families(server.get("/metrics").text)}
    assert {
        "nomoat_requests",
        "nomoat_time_to_first_token_seconds",
        "nomoat_answer_seconds",
        "nomoat_tokens",
    } <= set(families)
    routes = {sample.labels.get("route") for sample in families["nomoat_requests"].samples}
    assert "/v1/chat/completions" in routes


# -- adapters ------------------------------------------------------------------------------------------


def _said(server: RunningServer, model: str, **more: Any) -> str:
    body = {"model": model, "prompt": "The old house by the", "max_tokens": 12, "temperature": 0, **more}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_an_adapter_is_named_in_the_model_or_in_a_field(server: RunningServer) -> None:
    plain, changed = _said(server, "smollm2"), _said(server, "smollm2+me")
    assert plain != changed
    assert _said(server, "smollm2", adapters=[{"name": "me"}]) == changed
    assert _said(server, "smollm2+me:0") == plain
    assert "smollm2+me" in [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert server.get("/v1/models/smollm2+me").json()["adapters"] == ["me"]


def test_a_new_adapter_is_loaded_without_a_restart(
    server: RunningServer, smollm2_path: Path, tmp_path: Path
) -> None:
    path = write_adapter(smollm2_path, tmp_path / "new.gguf", 2)
    assert server.post("/v1/adapters", {"name": "new", "path": str(path)}).status_code == 201
    assert _said(server, "smollm2+new") != _said(server, "smollm2+me")
    assert "new" in [adapter["id"] for adapter in server.get("/v1/adapters").json()["data"]]
    assert httpx.delete(f"{server.url}/v1/adapters/new").status_code == 200
    assert server.post("/v1/completions", {"model": "smollm2+new", "prompt": "x"}).status_code == 404


@pytest.mark.parametrize("body", [
    {"name": "x", "path": "/nowhere/at/all"}, {"name": "x", "path": "/etc/passwd"}, {"name": "../x", "path": "/"},
    {"name": "x:1", "path": "/"}, {"name": "x", "path": "\x00"},
], ids=range(5))  # fmt: skip
def test_what_is_no_adapter_is_refused(server: RunningServer, body: dict[str, str]) -> None:
    assert server.post("/v1/adapters", body).status_code in {400, 404, 409}


def test_a_path_is_no_name_of_an_adapter(server: RunningServer, adapter_path: Path) -> None:
    assert (
        server.post("/v1/completions", {"model": f"smollm2+{adapter_path}", "prompt": "x"}).status_code == 404
    )


# -- the life of a server ------------------------------------------------------------------------------


def test_a_server_is_recorded_while_it_runs(server: RunningServer, server_home: Path) -> None:
    (record,) = [r for r in read_records(server_home) if r.pid == server.process.pid]
    assert (record.url, record.models) == (server.url, ("smollm2",))
    assert set(server.ready) == {"url", "pid", "models"}


def test_a_server_that_is_told_to_end_finishes_its_streams(start_server: StartServer) -> None:
    server = start_server("--grace", "0.5")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        stream = client.chat.completions.create(model="smollm2", stream=True, **LONG)
        parts = [next(stream)]
        server.process.send_signal(signal.SIGTERM)
        parts += list(stream)
    assert parts[-1].choices[0].finish_reason == "length"
    assert server.process.wait(30) == 0
    assert read_records(server.home) == []
    assert not list((server.home / "run" / "servers").iterdir())


def test_keys_are_asked_for(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# mine\nsecret-one\n\nsecret-two\n")
    server = start_server("--api-key-file", str(tmp_path / "keys"), "--allow-origin", "http://page.example")
    assert server.get("/v1/models").status_code == 401
    assert server.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert server.get("/v1/models", headers={"Authorization": "Bearer secret-two"}).status_code == 200
    assert server.get("/v1/models", headers={"x-api-key": "secret-one"}).status_code == 200
    assert server.get("/health").status_code == server.get("/v1/health").status_code == 200
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="nope", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    page = {"Origin": "http://page.example", "x-api-key": "secret-one"}
    assert (
        server.get("/v1/models", headers=page).headers["access-control-allow-origin"] == "http://page.example"
    )
    preflight = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(server.url + "/v1/models", headers=preflight).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1.evil.example:80"}, 403), ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:5"}, 200), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
    ],
    ids=str,
)  # fmt: skip
def test_a_foreign_page_gets_nothing(server: RunningServer, headers: dict[str, str], status: int) -> None:
    assert server.get("/v1/models", headers=headers).status_code == status


def test_a_page_of_the_server_itself_may_ask(server: RunningServer) -> None:
    assert server.get("/v1/models", headers={"Origin": server.url}).status_code == 200


def test_a_crash_of_the_engine_is_survived(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = workers_of(server.process.pid)
    with httpx.stream(
        "POST", server.url + "/v1/chat/completions", json={**LONG, "stream": True}, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        worker.kill()
        rest = [line for line in lines if line]
    assert "engine_failed" in rest[-1]
    deadline = time.monotonic() + 30
    while not _healthy(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _healthy(server)
