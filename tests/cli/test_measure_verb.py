"""`nomoat measure` as scripts and people meet it: the real program, the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nomoat.base.manifests import read_manifest
from nomoat.measure.report import KIND, PARETO_KIND, read_report

PROGRAM = [sys.executable, "-m", "nomoat.cli.main", "measure"]
OWN = [
    {"question": "What is the capital of France?", "answer": "Paris"},
    {"question": "Is ice cold?", "choices": ["yes", "no"], "gold": 0},
    {"question": "Is fire cold?", "choices": ["yes", "no"], "gold": "no"},
    {"prompt": "One, two,", "completion": " three"},
    {"prompt": "Monday,", "completion": " Tuesday"},
]
FORMS = ["questions.answer", "questions.choice", "questions.completion"]


def _run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def _json(environment: dict[str, str], *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    done = _run(environment, *arguments, "--json")
    assert done.returncode == status, done.stderr
    (line,) = done.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


@pytest.fixture(scope="module")
def measured(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A quick measurement of the embedded model, on a few questions of the user's own."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in OWN))
    out = folder / "report"
    printed = _json(
        environment,
        "smollm2",
        "--quick",
        "--tasks",
        "speed",
        "--questions",
        folder / "own.jsonl",
        "--out",
        out,
    )
    return out, printed


def test_json_is_one_object_with_the_promised_fields(measured: tuple[Path, dict[str, Any]]) -> None:
    out, printed = measured
    assert printed["model"]["quantisation"] == "Q4_1"
    assert printed["speed"]["decode"]["tokens_per_second"]["median"] > 0
    assert printed["memory"]["peak_rss_bytes"] > 0
    assert [task["task"] for task in printed["tasks"]] == FORMS
    assert printed["tasks"][1]["metrics"]["acc"]["chance"] == 0.5
    assert all("items" not in task for task in printed["tasks"])
    assert printed["out"] == str(out)
    assert set(printed["files"]) == {"report.json", "report.html", "shares.svg", "bits.svg", "speed.svg"}


def test_the_folder_is_finished_and_holds_every_item(measured: tuple[Path, dict[str, Any]]) -> None:
    out, printed = measured
    manifest = read_manifest(out, KIND, verify=True)
    assert manifest.parents == {"model": printed["model"]["digest"]}
    tasks = {task["task"]: task for task in read_report(out)["tasks"]}
    assert len(tasks["questions.choice"]["items"]) == 2
    assert tasks["questions.answer"]["items"][0]["value"] == "Paris"


def test_versus_measures_both_on_the_same_items(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in OWN[1:]))
    printed = _json(
        environment, "smollm2", "--versus", "smollm2", "--tasks", "questions", "--questions", tmp_path / "own.jsonl",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert [part["metric"] for part in printed["comparison"]] == ["acc", "acc_norm", "bits_per_byte"]
    assert {part["verdict"] for part in printed["comparison"]} == {"not shown to differ"}
    assert printed["comparison"][0]["n"] == 2
    assert printed["versus"]["name"] == "smollm2"
    assert printed["speed"] is None


def test_two_reports_are_compared_and_set_side_by_side(
    measured: tuple[Path, dict[str, Any]], environment: dict[str, str], tmp_path: Path
) -> None:
    out, _ = measured
    printed = _json(environment, "compare", out, out / "report.json", "--out", tmp_path / "both")
    assert {part["task"] for part in printed["comparison"]} == set(FORMS)
    assert read_manifest(tmp_path / "both", KIND, verify=True)
    table = _run(environment, "compare", out, out)
    assert "not shown to differ" in table.stdout and table.returncode == 0
    front = _json(environment, "pareto", out, out, "--out", tmp_path / "pareto")
    assert [model["on_disk_front"] for model in front["models"]] == [True, True]
    assert read_manifest(tmp_path / "pareto", PARETO_KIND, verify=True)
    assert "not dominated" in _run(environment, "pareto", out, "--metric", "questions.choice.acc").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["smollm2", "--tasks", "mmlu"], "bad_input", "mmlu"),
        (["smollm2", "--tasks", "text"], "usage", "--text"),
        (["smolm2"], "not_found", "smolm2"),
        (["smollm2", "--versus", "smolm2"], "not_found", "smolm2"),
        (["smollm2", "--adapter", "nowhere"], "not_found", "nowhere"),
        (["smollm2", "--questions", "bad.jsonl"], "bad_file", "line 1"),
        (["none", "--questions", "bad.jsonl"], "bad_file", "line 1"),  # before a model is looked at
        (["smollm2", "--text", "nowhere.txt"], "not_found", "nowhere"),
    ],
)
def test_a_mistake_shows_before_anything_is_measured(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"question": "Why?"}\n')
    done = _json(environment, *arguments, "--out", "out", status=2 if code == "usage" else 1)
    assert done["error"]["code"] == code
    assert told in done["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = _json(environment, "smollm2", "--out", tmp_path, status=1)
    assert done["error"]["code"] == "bad_input"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_help_knows_the_parts_and_the_model_is_the_default() -> None:
    text = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(word in text for word in ("model", "compare", "pareto"))
    text = subprocess.run(
        [*PROGRAM, "smollm2", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "--versus" in text
