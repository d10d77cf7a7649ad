"""llama-server's own endpoints beside nomoat's others: the same answers, the same limits, the same doors."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_server import RunningServer, StartServer

from nomoat.run.engine import Engine

PROMPT = "The old house by the"
GREEDY: dict[str, Any] = {"prompt": PROMPT, "temperature": 0, "n_predict": 8}
ENDLESS: dict[str, Any] = {"prompt": PROMPT, "n_predict": 900, "ignore_eos": True, "stream": True}
PATHS = {
    "GET": ["/props", "/slots", "/lora-adapters"],
    "POST": [
        "/completion", "/completions", "/embedding", "/embeddings", "/apply-template", "/props", "/infill",
        "/lora-adapters", "/rerank",
    ],
}  # fmt: skip


def _completed(server: RunningServer, **fields: Any) -> dict[str, Any]:
    answer = server.post("/completion", {**GREEDY, **fields})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def _refused(server: RunningServer, body: dict[str, Any], path: str = "/completion") -> str:
    answer = server.post(path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, 400, "invalid_request_error")
    return str(error["message"])


def _refused_list(server: RunningServer, body: Any) -> str:
    answer = server.post("/lora-adapters", body)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line)


# -- the same answers as elsewhere ---------------------------------------------------------------------


def test_a_completion_is_that_of_openais_endpoint(server: RunningServer) -> None:
    body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, "logprobs": 2}
    other = server.post("/v1/completions", body).json()["choices"][0]
    own = _completed(server, n_probs=2)
    assert own["content"] == other["text"]
    entries, table = own["completion_probabilities"], other["logprobs"]
    assert [entry["token"] for entry in entries] == table["tokens"]
    assert [entry["logprob"] for entry in entries] == pytest.approx(table["token_logprobs"], abs=0.02)
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * 8


def test_an_applied_template_is_what_a_chat_reads(server: RunningServer, engine: Engine) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
    prompt = server.post("/apply-template", {"messages": messages}).json()["prompt"]
    assert engine.encode(prompt, add_special=True) == engine.encode_chat(
        [{"role": "user", "content": "Say hello."}]
    )
    chat = server.post(
        "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 8}
    ).json()
    assert _completed(server, prompt=prompt)["content"] == chat["choices"][0]["message"]["content"]


def test_tools_are_in_the_template_as_a_chat_tells_them(server: RunningServer) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather."}}
    body = {"messages": [{"role": "user", "content": "Is it raining?"}], "tools": [tool]}
    prompt = server.post("/apply-template", body).json()["prompt"]
    counted = server.post("/v1/chat/completions", {**body, "max_tokens": 1}).json()["usage"]["prompt_tokens"]
    assert "get_weather" in prompt and _completed(server, prompt=prompt)["tokens_evaluated"] == counted


def test_an_adapter_has_the_number_of_its_place(server: RunningServer) -> None:
    [adapter, *_] = server.get("/lora-adapters").json()
    assert (adapter["id"], adapter["name"], adapter["scale"]) == (0, "me", 0.0)
    by_number = _completed(server, lora=[{"id": 0, "scale": 0.8}])
    assert by_number["content"] == _completed(server, model="smollm2+me:0.8")["content"]
    assert by_number["content"] != _completed(server, lora=[{"id": 0, "scale": 0}])["content"]
    assert by_number["model"] == "smollm2+me:0.8"
    assert "/lora-adapters" in _refused(server, {**GREEDY, "lora": [{"id": 99, "scale": 1}]})


def test_vectors_are_those_of_openais_endpoint(server: RunningServer) -> None:
    texts = ["The sea is blue.", "Rivers run."]
    others = server.post("/v1/embeddings", {"input": texts}).json()["data"]
    own = server.post("/embeddings", {"content": texts}).json()
    for one, other in zip(own, others, strict=True):
        assert one["embedding"][0] == pytest.approx(other["embedding"], abs=1e-5)
    assert "norm" in _refused(server, {"content": "x", "embd_normalize": -1}, "/embedding")


# -- what a request may say ----------------------------------------------------------------------------


def test_a_seed_tells_choices_apart_and_repeats_them(server: RunningServer) -> None:
    wild = {"temperature": 1.5, "seed": 3, "n_cmpl": 2}
    first, second = (server.post("/completion", {**GREEDY, **wild}).json() for _ in range(2))
    assert [each["content"] for each in first] == [each["content"] for each in second]
    assert first[0]["content"] != first[1]["content"]
    assert [each["generation_settings"]["seed"] for each in first] == [3, 4]


def test_a_drawn_seed_is_told_and_repeats_the_answer(server: RunningServer) -> None:
    first = _completed(server, temperature=1.5, seed=-1)
    seed = first["generation_settings"]["seed"]
    assert _completed(server, temperature=1.5, seed=seed)["content"] == first["content"]


def test_a_prompt_can_be_read_without_an_answer(server: RunningServer) -> None:
    prompt = "Nobody has asked this before, and nobody will ask it again. " * 4
    read = _completed(server, prompt=prompt, n_predict=0)
    assert (read["content"], read["tokens_predicted"], read["stop_type"]) == ("", 0, "limit")
    assert read["tokens_evaluated"] == read["tokens_cached"] > 40
    assert _completed(server, prompt=prompt)["timings"]["cache_n"] >= read["tokens_evaluated"] - 1
    assert _completed(server, prompt=prompt, cache_prompt=False)["timings"]["cache_n"] == 0
    with httpx.stream(
        "POST", server.url + "/completion", json={**GREEDY, "n_predict": 0, "stream": True}
    ) as answer:
        assert [event["stop"] for event in _events(answer)] == [True]


def test_the_token_that_ends_an_answer_is_told_with_its_probability(server: RunningServer) -> None:
    prompt = "<|im_start|>user\nSay only: yes<|im_end|>\n<|im_start|>assistant\nYes."
    end = _completed(server, prompt=prompt, n_probs=1, return_tokens=True)
    [entry] = end["completion_probabilities"]
    assert end["tokens"] == [entry["id"]] == [entry["top_logprobs"][0]["id"]]
    assert (entry["token"], end["tokens_predicted"], end["stop_type"]) == ("", 1, "eos")
    assert -1 < entry["logprob"] < 0


def test_speed_is_that_of_tokens_after_the_first(server: RunningServer) -> None:
    timings = _completed(server)["timings"]
    assert timings["predicted_n"] == 8
    assert timings["predicted_per_second"] == pytest.approx(7 / timings["predicted_ms"] * 1e3)
    assert timings["predicted_per_token_ms"] == pytest.approx(timings["predicted_ms"] / 7)


def test_progress_is_told_of_each_portion_of_a_long_prompt(server: RunningServer) -> None:
    body = {**GREEDY, "prompt": "word " * 700, "n_predict": 1, "stream": True, "return_progress": True}
    with httpx.stream("POST", server.url + "/completion", json=body, timeout=60) as answer:
        told = [event["prompt_progress"] for event in _events(answer) if "prompt_progress" in event]
    assert [progress["total"] for progress in told] == [701] * len(told)
    assert told[0]["processed"] == told[0]["cache"] < told[1]["processed"] < told[-1]["processed"] == 701
    times = [progress["time_ms"] for progress in told]
    assert times == sorted(times) and times[-1] > 0


def test_samplers_that_are_left_out_are_off(server: RunningServer) -> None:
    settings = _completed(server, samplers=["top_k", "xtc", "temperature"], min_p=0.3)["generation_settings"]
    assert (settings["top_k"], settings["top_p"], settings["min_p"]) == (40, 1.0, 0.0)
    assert _completed(server, samplers="edkypmxt")["generation_settings"]["top_p"] == 0.95
    assert "order" in _refused(server, {**GREEDY, "samplers": ["temperature", "top_k"]})


@pytest.mark.parametrize(("field", "off", "on"), [
    ("mirostat", 0, 2), ("typical_p", 1.0, 0.5), ("dry_multiplier", 0.0, 0.8), ("xtc_probability", 0, 0.5),
    ("top_n_sigma", -1.0, 1.0), ("dynatemp_range", 0.0, 0.5), ("t_max_predict_ms", -1, 100), ("min_keep", 0, 2),
    ("post_sampling_probs", False, True),
])  # fmt: skip
def test_what_is_not_there_may_be_off_but_not_on(
    server: RunningServer, field: str, off: Any, on: Any
) -> None:
    assert _completed(server, **{field: off})["content"]
    assert field in _refused(server, {**GREEDY, field: on})


@pytest.mark.parametrize("body", [
    {"prompt": ""}, {"prompt": [[]]}, {"prompt": [1, [2]]}, {"prompt": [10**6]}, {"prompt": [-1]}, {"prompt": {"x": 1}},
    {"prompt": {"prompt_string": "x", "multimodal_data": ["AAAA"]}}, {"prompt": ["x"] * 257},
    {"prompt": "x", "logit_bias": [[10**6, 1]]}, {"prompt": "x", "logit_bias": [["x", True]]},
    {"prompt": "x", "json_schema": {"pattern": "a"}}, {"prompt": [*["x"] * 5000, 1]},
], ids=range(12))  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(server: RunningServer, body: dict[str, Any]) -> None:
    assert _refused(server, {"n_predict": 1, **body})


@pytest.mark.parametrize("path", ["/props", "/slots/0?action=save", "/rerank", "/v1/rerank", "/reranking"])
def test_what_is_not_offered_says_what_to_do_instead(server: RunningServer, path: str) -> None:
    answer = server.post(path, {"query": "x", "documents": ["y"]})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (501, 501, "not_supported_error")
    assert "(" in error["message"]


def test_an_adapter_for_all_requests_is_refused_with_what_to_do_instead(server: RunningServer) -> None:
    answer = server.post("/lora-adapters", [{"id": 0, "scale": 0.5}])
    assert answer.status_code == 501 and '"lora"' in answer.json()["error"]["message"]
    assert "/lora-adapters" in _refused_list(server, [{"id": 99, "scale": 0}])
    assert "list" in _refused_list(server, "me")


# -- streams, slots, and clients that leave ------------------------------------------------------------


def test_several_prompts_are_streamed_together(server: RunningServer) -> None:
    whole = server.post("/completion", {**GREEDY, "prompt": [PROMPT, "1, 2, 3,"]}).json()
    body = {**GREEDY, "prompt": [PROMPT, "1, 2, 3,"], "stream": True}
    with httpx.stream("POST", server.url + "/completion", json=body) as answer:
        events = list(_events(answer))
    for index in (0, 1):
        text = "".join(event["content"] for event in events if event["index"] == index)
        assert text == whole[index]["content"]


def test_a_running_answer_is_in_a_slot_until_its_client_leaves(server: RunningServer) -> None:
    server.wait_until_idle()
    with httpx.stream("POST", server.url + "/completion", json=ENDLESS) as answer:
        events = _events(answer)  # dropping it would close the connection
        event = next(events)
        busy = [slot for slot in server.get("/slots").json() if slot["is_processing"]]
        assert [slot["id"] for slot in busy] == [event["id_slot"]] == [0]
        [state] = busy[0]["next_token"]
        assert (
            state["n_decoded"] >= event["tokens_predicted"] and state["n_remain"] == 900 - state["n_decoded"]
        )
        assert busy[0]["n_prompt_tokens"] == event["tokens_evaluated"]
        assert PROMPT not in json.dumps(busy)
    server.wait_until_idle()
    assert not any(slot["is_processing"] for slot in server.get("/slots").json())


def test_a_client_that_leaves_before_the_whole_answer_stops_the_work(server: RunningServer) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/completion", json={**ENDLESS, "stream": False}, timeout=0.5)
    server.wait_until_idle()


def test_waiting_answers_are_in_no_slot_and_a_full_queue_is_told(start_server: StartServer) -> None:
    server = start_server("--parallel", "1", "--queue", "1")
    body = {**ENDLESS, "n_predict": 400}
    with httpx.stream("POST", server.url + "/completion", json=body) as first:
        events = _events(first)
        next(events)
        full = server.get("/slots?fail_on_no_slot=1")
        assert (full.status_code, full.json()["error"]["type"]) == (503, "unavailable_error")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            short = {**GREEDY, "n_predict": 1}
            answers = list(pool.map(lambda _: server.post("/completion", short), range(4)))
        assert len(server.get("/slots").json()) == 1
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["error"]["code"] == 429 and int(refused[0].headers["Retry-After"]) >= 1
    server.wait_until_idle()
    assert server.get("/slots?fail_on_no_slot=1").status_code == 200


# -- doors ---------------------------------------------------------------------------------------------


def _statuses(server: RunningServer, headers: dict[str, str]) -> set[tuple[int, str]]:
    answers = [
        httpx.request(method, server.url + path, headers=headers, json={} if method == "POST" else None)
        for method, paths in PATHS.items() for path in paths
    ]  # fmt: skip
    errors = [(answer.status_code, answer.json()["error"]) for answer in answers]
    assert all(error["code"] == status for status, error in errors)
    return {(status, error["type"]) for status, error in errors}


def test_foreign_pages_and_names_are_kept_out(server: RunningServer) -> None:
    assert _statuses(server, {"Origin": "https://evil.example"}) == {(403, "permission_error")}
    assert _statuses(server, {"Host": "evil.example"}) == {(403, "permission_error")}


def test_every_endpoint_wants_a_key_where_keys_are_set(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("open sesame\n")
    server = start_server("--api-key-file", str(tmp_path / "keys"))
    assert _statuses(server, {}) == {(401, "authentication_error")}
    headers = {"Authorization": "Bearer open sesame"}
    assert server.post("/completion", GREEDY, headers=headers).status_code == 200
    assert server.get("/props", headers=headers).json()["model_alias"] == "smollm2"
