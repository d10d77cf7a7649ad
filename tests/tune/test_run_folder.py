"""A run's folder holds a run or nothing: what belongs to somebody else is never written to, never removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.manifests import write_manifest
from nomoat.tune.config import TuneConfig, read_config
from nomoat.tune.memory import MemoryPlan
from nomoat.tune.run_folder import RunFolder
from nomoat.tune.run_plan import RunPlan

PLAN = RunPlan("bf16", 4e11, 2e11, MemoryPlan(True, False, 2048, 10**9), 2)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "a" / "out")


def _begun(folder: RunFolder) -> RunFolder:
    folder.open(resume=False)
    folder.write_plan(TuneConfig(r=3), PLAN, "sha256:identity")
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _dataset(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "train.jsonl").write_text("{}\n")
    write_manifest(path, "dataset", ["train.jsonl"], {}, {})


def test_a_new_folder_is_made_with_its_parents(folder: RunFolder) -> None:
    folder.open(resume=False)
    assert folder.path.is_dir()
    assert not folder.has_plan


def test_what_a_resume_must_repeat_comes_back(folder: RunFolder) -> None:
    _begun(folder).open(resume=True)
    assert folder.read_plan() == (PLAN, "sha256:identity")
    assert read_config(folder.path / "config.toml") == TuneConfig(r=3)


def test_resuming_where_nothing_was_begun_begins(folder: RunFolder) -> None:
    folder.open(resume=True)
    assert not folder.has_plan


def test_an_unfinished_run_is_only_touched_by_a_resume(folder: RunFolder) -> None:
    before = _content(_begun(folder).path)
    with pytest.raises(InputError, match="not finished") as error:
        folder.open(resume=False)
    assert "--resume" in error.value.hint
    assert _content(folder.path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_adapter_is_refused(resume: bool, folder: RunFolder) -> None:
    _begun(folder)
    write_manifest(folder.path, "adapter", ["config.toml"], {}, {})
    with pytest.raises(InputError, match="finished adapter"):
        folder.open(resume)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "name",
    ["thesis.tex", "config.toml", "metrics.jsonl", "dataset/train.jsonl", "dataset/notes.md", "dataset"],
)
def test_a_folder_of_somebody_elses_is_refused_and_left_as_it_is(
    name: str, resume: bool, folder: RunFolder
) -> None:
    place = folder.path / name
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        folder.open(resume)
    assert _content(folder.path) == {name: b"mine"}


def test_a_dataset_without_a_plan_is_what_a_stopped_run_left(folder: RunFolder) -> None:
    _dataset(folder.dataset)
    folder.open(resume=False)
    assert folder.has_dataset


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_way_is_told_as_such(below: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="in its way"):
        RunFolder(tmp_path / "out" / below).open(resume=False)
    assert (tmp_path / "out").read_text() == "mine"


def test_what_a_killed_run_left_half_written_goes_and_nothing_else(folder: RunFolder) -> None:
    _begun(folder)
    mine = [".git", ".notes.md.12345678.part", ".checkpoint.safetensors.swp", "checkpoint.safetensors"]
    for name in (*mine, ".checkpoint.safetensors.0123abcd.part", ".report.html.ffffffff.part"):
        (folder.path / name).write_text("half")
    _dataset(folder.path / ".dataset.0123abcd.part")
    folder.open(resume=True)
    assert {entry.name for entry in folder.path.iterdir()} == {*mine, "plan.json", "config.toml"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"name": "a plan of another program"}',
     json.dumps({**PLAN.as_json(), "fingerprint": "x", "colour": "red"}).encode(),
     json.dumps({**PLAN.as_json(), "fingerprint": "x", "memory": None}).encode()],
)  # fmt: skip
def test_a_damaged_or_foreign_plan_is_refused_by_name(content: Any, folder: RunFolder) -> None:
    _begun(folder)
    (folder.path / "plan.json").write_bytes(content)
    with pytest.raises(BadFileError, match=r"plan\.json") as error:
        folder.read_plan()
    assert "another --out" in error.value.hint


def test_the_checkpoint_goes_when_all_is_done(folder: RunFolder) -> None:
    _begun(folder)
    (folder.path / "checkpoint.safetensors").write_text("")
    folder.remove_checkpoint()
    folder.remove_checkpoint()
    assert "checkpoint.safetensors" not in _content(folder.path)


def test_two_runs_at_once_in_one_folder_are_refused_and_the_first_goes_on(folder: RunFolder) -> None:
    with folder.held():
        _begun(folder)
        before = _content(folder.path)
        with pytest.raises(InputError, match="right now") as refused, RunFolder(folder.path).held():
            pytest.fail("the folder was given away twice")
        assert "--out" in refused.value.hint
        assert _content(folder.path) == before
    with folder.held():  # free again
        pass
