"""EleutherAI's lm_eval against `nomoat serve`: the same accuracies as transformers on the same weights, and no network.

Server and harness run in a network namespace that has nothing but its own loopback device, with the audit hook of
`test_private` in every Python process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choice_oracle import FLOAT_NATS, Q4_1_NATS, OracleAnswer, assert_same_choice

from nomoat.cli.main import VERBS
from nomoat.measure.multiple_choice import choose
from nomoat.measure.questions import ChoiceQuestion
from test_private import AUDIT, _namespace

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("lm_eval") is None, reason="the extra lm-eval is not installed"
    ),
    pytest.mark.skipif("serve" not in VERBS, reason="no server"),
]

TASK = """\
task: own_questions
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1.0
"""
# Inside the namespace: raise the loopback device, start the server, run the harness with its address.
DRIVER = textwrap.dedent(
    """
    import fcntl, json, socket, struct, subprocess, sys

    IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS = 1, 0x8913, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        answer = fcntl.ioctl(device, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", answer)[1]
        fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))

    serve = [sys.executable, "-m", "nomoat.cli.main", "serve", sys.argv[1], "--port", "0", "--json"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = json.loads(server.stdout.readline())
            address = ready["url"].rstrip("/")
            address += "/completions" if address.endswith("/v1") else "/v1/completions"
            model = f"model={ready['models'][0]},base_url={address},tokenizer_backend=remote"
            model += f",max_length=512,{sys.argv[2]}"
            harness = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", model]
            sys.exit(subprocess.run([*harness, *sys.argv[3:]]).returncode)
        finally:
            server.terminate()
    """
)


@pytest.fixture(scope="module")
def environment(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Offline by its own promise, watched, and with homes that are empty."""
    folder = tmp_path_factory.mktemp("lm-eval")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(AUDIT)
    return {
        **os.environ, "HF_HOME": str(folder / "hf"), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
        "NOMOAT_HOME": str(folder / "home"), "NOMOAT_EMBEDDED_MODEL": str(smollm2_path),
        "NOMOAT_EMBEDDED": "as-shipped", "NOMOAT_TEST_AUDIT": str(folder / "audit.log"),
        "PYTHONPATH": os.pathsep.join([str(folder / "hook"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("floats", "options"),
    [(True, ["tokenized_requests=True", "--batch_size", "4"]),
     (False, ["tokenized_requests=False,num_concurrent=2", "--batch_size", "1"])],
    ids=["float32 by token ids", "Q4_1 by text"],
)  # fmt: skip
def test_lm_eval_finds_what_transformers_finds_and_needs_no_network(
    floats: bool, options: list[str], questions: Sequence[ChoiceQuestion], oracle: list[OracleAnswer],
    environment: dict[str, str], float_model: Path, tmp_path: Path,
) -> None:  # fmt: skip
    model, nats = (str(float_model), FLOAT_NATS) if floats else ("smollm2", Q4_1_NATS)
    results = _lm_eval([model, *options], questions, environment, tmp_path)
    samples = sorted(_samples(tmp_path), key=lambda sample: sample["doc_id"])
    right, ties = {"acc": 0, "acc_norm": 0}, {"acc": 0, "acc_norm": 0}
    for sample, question, answer in zip(samples, questions, oracle, strict=True):
        found = [float(response[0]) for response in sample["filtered_resps"]]
        chosen = choose(found, question.choices)
        assert_same_choice(found, answer, chosen, nats)
        for metric, place, scores in zip(right, chosen, (answer.scores, answer.per_byte), strict=True):
            expected = int(np.argmax(scores))
            right[metric] += expected == question.gold
            ties[metric] += place != expected
    for metric, count in right.items():
        assert results[f"{metric},none"] * len(questions) == pytest.approx(count, abs=ties[metric] + 1e-6)
    assert not floats or not any(ties.values())
    log = Path(environment["NOMOAT_TEST_AUDIT"])
    assert not log.exists(), log.read_text()
    assert len(log.with_name("audit.log.processes").read_text().split()) >= 4, (
        "driver, server, worker, harness"
    )


def _lm_eval(
    options: list[str], questions: Sequence[ChoiceQuestion], environment: dict[str, str], folder: Path
) -> dict[str, Any]:
    """The harness's own results of the task."""
    path = folder / "questions.jsonl"
    lines = [{"question": q.question, "choices": list(q.choices), "gold": q.gold} for q in questions]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "own_questions.yaml").write_text(TASK.format(questions=path))
    argv = [
        *_namespace(), sys.executable, "-c", DRIVER, *options, "--tasks", "own_questions",
        "--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples",
    ]  # fmt: skip
    done = subprocess.run(
        argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (file,) = (folder / "out").rglob("results_*.json")
    results: dict[str, Any] = json.loads(file.read_text())["results"]["own_questions"]
    return results


def _samples(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "out").rglob("samples_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]
