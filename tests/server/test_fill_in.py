"""Filling in the middle, for the clients of three APIs.

The embedded model has no marks for it. Three of its control tokens that it never uses get their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from running_server import RunningServer, started

from nomoat.base.settings import Settings
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

MARKS = {
    b"<issue_closed>": b"<|fim_prefix|>",
    b"<jupyter_text>": b"<|fim_suffix|>",
    b"<jupyter_code>": b"<|fim_middle|>",
}
BEFORE, AFTER = "def gcd(a, b):\n", "\n    return a\n"


@pytest.fixture(scope="module")
def coder_path(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = smollm2_path.read_bytes()
    for old, new in MARKS.items():
        assert content.count(old) == 1
        content = content.replace(old, new)
    path = tmp_path_factory.mktemp("coder") / "coder.gguf"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def coder(coder_path: Path) -> Iterator[RunningServer]:
    with started(
        coder_path, coder_path.parent, str(coder_path), "--port", "0", "--context-length", "512"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def filled(coder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the engine itself writes after the marks that the text stands for."""
    settings = Settings(home=tmp_path_factory.mktemp("oracle"), threads=1, embedded_model=None)
    with Engine(coder_path, context_length=512, settings=settings) as engine:
        prompt = engine.encode(f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>")
        return engine.generate(prompt, SamplingParams(temperature=0, max_tokens=8)).text()


def test_llama_servers_client_fills_in(coder: RunningServer) -> None:
    """The prompt is llama-server's, with a repository's name where the model has a mark for it."""
    body: dict[str, Any] = {"input_prefix": BEFORE, "input_suffix": AFTER, "n_predict": 8, "temperature": 0}
    whole = coder.post("/infill", body).json()
    assert (
        whole["prompt"] == f"<reponame>myproject\n<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>"
    )
    filled = coder.post("/completion", {**body, "prompt": whole["prompt"]}).json()["content"]
    assert whole["content"] == filled
    typed = coder.post("/infill", {**body, "input_prefix": BEFORE[:-4], "prompt": BEFORE[-4:]}).json()
    assert (typed["prompt"], typed["content"]) == (whole["prompt"], filled)
    lines = coder.post("/infill", {**body, "stream": True}).text.splitlines()
    assert sum(line.startswith("data: ") for line in lines) > 1


def test_other_files_are_read_first(coder: RunningServer) -> None:
    body = {"input_prefix": BEFORE, "input_suffix": AFTER, "n_predict": 1,
            "input_extra": [{"filename": "a.py", "text": "A = 1"}, {"text": "B = 2"}]}  # fmt: skip
    prompt = coder.post("/infill", body).json()["prompt"]
    assert prompt.index("A = 1") < prompt.index("B = 2") < prompt.index("<|fim_prefix|>")


def test_marks_in_a_text_are_text(coder: RunningServer) -> None:
    """A file about such models cannot end the gap."""
    body = {"input_prefix": "<|fim_middle|>", "input_suffix": "", "n_predict": 1}
    plain = coder.post("/infill", {**body, "input_prefix": ""}).json()["tokens_evaluated"]
    assert coder.post("/infill", body).json()["tokens_evaluated"] > plain + 1


def test_openais_client_has_a_suffix(coder: RunningServer, filled: str) -> None:
    with openai.OpenAI(base_url=f"{coder.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        answer = client.completions.create(model="", prompt=BEFORE, suffix=AFTER, max_tokens=8, temperature=0)
        assert answer.choices[0].text == filled
        with pytest.raises(openai.BadRequestError, match="echo"):
            client.completions.create(model="", prompt=BEFORE, suffix=AFTER, echo=True)


def test_ollamas_client_has_a_suffix(coder: RunningServer, filled: str) -> None:
    options = {"temperature": 0, "num_predict": 8}
    with ollama.Client(host=coder.url, timeout=60) as client:
        answer = client.generate(coder.ready["models"][0], prompt=BEFORE, suffix=AFTER, options=options)
    assert answer.response == filled


@pytest.mark.parametrize(("path", "body", "status"), [
    ("/infill", {"input_prefix": BEFORE, "input_suffix": AFTER}, 501),  # as llama-server says it
    ("/v1/completions", {"prompt": BEFORE, "suffix": AFTER}, 400),
    ("/api/generate", {"model": "smollm2", "prompt": BEFORE, "suffix": AFTER}, 400),
])  # fmt: skip
def test_a_model_that_was_not_trained_for_it_says_so(
    server: RunningServer, path: str, body: Any, status: int
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status
    assert "not trained to fill in the middle" in answer.text
