"""Answers of llama-server's own endpoints, beside those that the real llama-server gave to the same requests.

Building llama-server takes 10 minutes, so its answers are in a file that `record_llama_server.py` wrote. Where one was
built, a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_server_cases import CASES, CONTEXT_TOKENS, EMBEDDINGS
from record_llama_server import RECORDED, asked, record
from running_server import RunningServer

REAL: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
ANSWERED = [
    name
    for name, case in CASES.items()
    if case[0] == "POST"
    and name not in ("settings", "chosen fields")
    and REAL["answers"][name]["status"] == 200
]
REFUSED = [name for name in CASES if REAL["answers"][name]["status"] != 200]
# Sums in another order, or on another processor, change a log-probability by so much.
TOLERANCE = 0.1
_TIMINGS = (
    "cache_n", "restored_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n",
    "predicted_ms", "predicted_per_token_ms", "predicted_per_second",
)  # fmt: skip


def _assert_same(ours: Any, real: Any, place: str = "") -> None:
    """Everything that is in the real answer is in ours, too, with the same value."""
    if isinstance(real, dict):
        assert set(real) <= set(ours), f"{place} lacks {set(real) - set(ours)}"
        for key in real:
            _assert_same(ours[key], real[key], f"{place}/{key}")
    elif isinstance(real, list):
        assert len(ours) == len(real), place
        for index, (one, other) in enumerate(zip(ours, real, strict=True)):
            _assert_same(one, other, f"{place}/{index}")
    elif isinstance(real, float):
        assert ours == pytest.approx(real, abs=TOLERANCE), place
    else:
        assert ours == real, place


def _comparable(answer: Any) -> Any:
    """A real answer as it would be here: slots have other numbers."""
    if isinstance(answer, list):
        return [_comparable(each) for each in answer]
    return {key: value for key, value in answer.items() if key != "id_slot"}


def _joined(events: list[Any]) -> dict[str, Any]:
    """A stream as one answer: the last event with what the others brought. Pieces may be cut elsewhere."""
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    counts = [event["tokens_predicted"] for event in events]
    assert counts == sorted(counts)
    events = [event for event in events if "prompt_progress" not in event]
    probabilities = [entry for event in events for entry in event.get("completion_probabilities", ())]
    return {
        **events[-1], "content": "".join(event["content"] for event in events),
        "tokens": [token for event in events for token in event["tokens"]],
        **({"completion_probabilities": probabilities} if probabilities else {}),
    }  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_an_answer_is_the_real_servers(server: RunningServer, name: str) -> None:
    ours, real = asked(server.url, CASES[name]), REAL["answers"][name]
    assert ours["status"] == 200, ours
    if "events" in real:
        assert set(real["events"][0]) <= set(ours["events"][0])
        _assert_same(_joined(ours["events"]), _comparable(_joined(real["events"])))
    else:
        _assert_same(ours["content"], _comparable(real["content"]))


def test_only_the_fields_that_were_chosen_come(server: RunningServer) -> None:
    assert asked(server.url, CASES["chosen fields"]) == REAL["answers"]["chosen fields"]


def test_timings_come_with_each_token(server: RunningServer) -> None:
    ours = asked(server.url, CASES["a stream with timings"])["events"]
    real = REAL["answers"]["a stream with timings"]["events"]
    assert {frozenset(event["timings"]) for event in ours[:-1]} == {frozenset(_TIMINGS)}
    assert all(set(event["timings"]) <= set(_TIMINGS) for event in real)
    assert [event["timings"]["predicted_n"] for event in ours] == [
        event["tokens_predicted"] for event in ours
    ]
    times = [event["timings"]["predicted_ms"] for event in ours[:-1]]
    assert times == sorted(times)


def test_progress_begins_with_nothing_and_ends_with_all(server: RunningServer) -> None:
    ours = asked(server.url, CASES["a stream with progress"])["events"]
    real = REAL["answers"]["a stream with progress"]["events"]
    ours, real = (
        [each["prompt_progress"] for each in events if "prompt_progress" in each] for events in (ours, real)
    )
    assert ours[0]["time_ms"] == 0
    ours = [{key: value for key, value in progress.items() if key != "time_ms"} for progress in ours]
    assert ours == real == [{"total": 23, "cache": 0, "processed": read} for read in (0, 23)]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_has_the_real_servers_form(server: RunningServer, name: str) -> None:
    ours, real = asked(server.url, CASES[name]), REAL["answers"][name]
    assert ours["status"] == real["status"]
    said = {key: value for key, value in real["content"]["error"].items() if key != "message"}
    assert {**ours["content"]["error"], "message": ""} == {**said, "message": ""}
    assert ours["content"]["error"]["message"]


def test_settings_are_told_as_they_were_understood(server: RunningServer) -> None:
    ours = asked(server.url, CASES["settings"])["content"]["generation_settings"]
    real = REAL["answers"]["settings"]["content"]["generation_settings"]
    assert set(ours) <= set(real)
    applied = [sampler for sampler in real["samplers"] if sampler in ours["samplers"]]
    _assert_same(ours, {key: real[key] for key in ours} | {"samplers": applied})


def test_properties_are_those_of_the_real_server(server: RunningServer) -> None:
    ours, real = asked(server.url, CASES["properties"])["content"], REAL["answers"]["properties"]["content"]
    defaults = real.pop("default_generation_settings")
    settings = ours["default_generation_settings"]
    assert settings["n_ctx"] == defaults["n_ctx"] == CONTEXT_TOKENS
    shared = {key: defaults["params"][key] for key in settings["params"]}
    _assert_same(settings["params"], shared | {"samplers": settings["params"]["samplers"]})
    same = (
        "model_ftype",
        "modalities",
        "endpoint_slots",
        "chat_template",
        "bos_token",
        "eos_token",
        "is_sleeping",
    )
    _assert_same(ours, {key: real[key] for key in same})
    assert ours["total_slots"] == 16 and ours["model_alias"] == "smollm2" and ours["build_info"]
    assert Path(ours["model_path"]).is_file()


def test_a_model_tells_its_context_and_its_size_as_there(server: RunningServer) -> None:
    ours, real = (
        asked(server.url, CASES["models"])["content"]["data"],
        REAL["answers"]["models"]["content"]["data"],
    )
    _assert_same(ours[0]["meta"], {key: real[0]["meta"][key] for key in ours[0]["meta"]})
    assert {"n_ctx", "n_ctx_train", "n_params"} <= set(ours[0]["meta"])


def test_an_idle_slot_and_an_adapter_have_the_real_servers_fields(server: RunningServer) -> None:
    server.wait_until_idle()
    [slot] = REAL["answers"]["slots"]["content"]
    for number, ours in enumerate(asked(server.url, CASES["slots"])["content"]):
        assert set(ours) <= set(slot)
        assert (ours["id"], ours["n_ctx"], ours["is_processing"]) == (number, slot["n_ctx"], False)
    _assert_same(asked(server.url, CASES["adapters"])["content"][:1], REAL["answers"]["adapters"]["content"])


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_vector_is_the_real_servers(server: RunningServer, name: str) -> None:
    ours, real = asked(server.url, EMBEDDINGS[name]), REAL["embeddings"][name]
    assert ours["status"] == real["status"]
    if real["status"] != 200:
        assert ours["content"]["error"]["type"] == real["content"]["error"]["type"]
        return
    for one, other in zip(ours["content"], real["content"], strict=True):
        assert one["index"] == other["index"]
        [vector], [begin] = one["embedding"], other["embedding"]
        assert len(vector) == 576
        np.testing.assert_allclose(vector[: len(begin)], begin, atol=0.05 * np.abs(begin).max())


def test_the_record_is_what_the_real_server_says(smollm2_path: Path) -> None:
    from llama_server import (
        built_llama_server,
    )  # of the benchmarks, which `record_llama_server` put on the path

    program = built_llama_server()
    if program is None:
        pytest.skip("llama-server was not built: benchmarks/llama_server.py does")
    fresh = record(program, smollm2_path)
    for name, answer in fresh["answers"].items():
        _assert_same(answer, REAL["answers"][name], name)
    assert set(fresh["embeddings"]) == set(REAL["embeddings"])
