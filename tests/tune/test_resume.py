"""A run that was killed and resumed ends with the same bits as one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import small_run
from safetensors.numpy import load_file

from nomoat.base.errors import InputError

_CHECKPOINT = "checkpoint.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path]) -> Path:
    """A folder with a source and a base, in which nothing was trained yet."""
    folder = tmp_path_factory.mktemp("place")
    small_run.write_source(folder / "source")
    (folder / "base.gguf").symlink_to(tiny_model("qwen2", "Q8_0"))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(place: Path, tmp_path_factory: pytest.TempPathFactory, kernel_cache: Path) -> Path:
    """The out folder of a run that nothing stopped."""
    folder = _copy(place, tmp_path_factory.mktemp("uninterrupted"))
    small_run.run(small_run.request(folder, kernel_cache))
    return folder / "out"


def _copy(place: Path, to: Path) -> Path:
    return copytree(place, to, symlinks=True, dirs_exist_ok=True)


def _assert_same_result(out: Path, expected: Path) -> None:
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (expected / weights).read_bytes()
    assert (out / "adapter.gguf").read_bytes() == (expected / "adapter.gguf").read_bytes()
    assert small_run.metrics(out) == small_run.metrics(expected)
    assert {entry.name for entry in out.iterdir()} == {entry.name for entry in expected.iterdir()}


def test_a_run_killed_again_and_again_comes_to_the_same_bits(
    place: Path, tmp_path: Path, uninterrupted: Path, kernel_cache: Path
) -> None:
    folder = _copy(place, tmp_path)
    kills: list[dict[str, Any]] = [
        {"kill_after_step": 1},  # before the first checkpoint
        {"kill_within_save": 3},  # with half of a checkpoint written
    ]
    for number, kill in enumerate(kills):
        assert small_run.run_child(folder, kernel_cache, resume=number > 0, **kill) == -signal.SIGKILL
    if not _kill_from_outside(folder, kernel_cache):
        pytest.skip("the run was over before it could be killed")
    small_run.run(small_run.request(folder, kernel_cache, resume=True))
    _assert_same_result(folder / "out", uninterrupted)


def _kill_from_outside(folder: Path, cache: Path) -> bool:
    """Kill a resumed run at some moment after it wrote a checkpoint; False where it ended before."""
    checkpoint = folder / "out" / _CHECKPOINT
    before = checkpoint.stat().st_ino
    told = json.dumps({"folder": str(folder), "cache": str(cache), "resume": True})
    child = subprocess.Popen([sys.executable, small_run.__file__, told])
    while child.poll() is None and checkpoint.exists() and checkpoint.stat().st_ino == before:
        time.sleep(0.001)
    child.kill()
    return child.wait() == -signal.SIGKILL


def test_a_run_killed_after_its_last_step_only_has_to_be_written_out(
    place: Path, tmp_path: Path, uninterrupted: Path, kernel_cache: Path
) -> None:
    folder = _copy(place, tmp_path)
    asked = small_run.request(folder, kernel_cache)
    with pytest.raises(RuntimeError, match="export"):
        small_run.run(asked, oracle=_failing)
    resumed = small_run.run(small_run.request(folder, kernel_cache, resume=True))
    assert resumed.training.steps == small_run.STEPS
    assert small_run.metrics(folder / "out") == small_run.metrics(uninterrupted)


def _failing(tokens: list[int], adapter: Path | None) -> Any:
    raise RuntimeError("killed during export")


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 1e-4}, {"r": 8}, {"seed": 1}, {"max_steps": 20}, {"target_modules": ("q_proj",)}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("saved", [True, False], ids=["with a checkpoint", "before the first checkpoint"])
def test_a_resume_with_other_options_is_refused_and_changes_nothing(
    changed: dict[str, Any], saved: bool, begun: Path, kernel_cache: Path
) -> None:
    if not saved:
        (begun / "out" / _CHECKPOINT).unlink()
    before = {p: p.read_bytes() for p in (begun / "out").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="another base, dataset or option") as error:
        small_run.run(small_run.request(begun, kernel_cache, resume=True, **changed))
    assert "repeat the options" in error.value.hint
    assert {p: p.read_bytes() for p in (begun / "out").rglob("*") if p.is_file()} == before


def test_a_resume_on_another_base_is_refused(
    begun: Path, kernel_cache: Path, tiny_model: Callable[..., Path]
) -> None:
    other = tiny_model("qwen2", "Q4_0")
    with pytest.raises(InputError, match="another base"):
        small_run.run(small_run.request(begun, kernel_cache, resume=True, base=other))


def test_how_often_to_save_and_how_much_memory_to_take_may_change(begun: Path, kernel_cache: Path) -> None:
    asked = small_run.request(
        begun, kernel_cache, resume=True, checkpoint_seconds=30.0, memory_bytes=4 * 2**30
    )
    assert small_run.run(asked).training.steps == small_run.STEPS


@pytest.fixture
def begun(place: Path, tmp_path: Path, kernel_cache: Path) -> Path:
    """A place with a run that was stopped after two steps."""
    folder, asked = _copy(place, tmp_path), iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        small_run.run(small_run.request(folder, kernel_cache, should_stop=lambda: next(asked)))
    assert len(small_run.metrics(folder / "out")) == 2
    return folder


# -- Ctrl-C at the command line -------------------------------------------------------------------

_PROGRAM = """
import os, signal, sys
from nomoat.cli.main import main
from nomoat.tune.trainer import Trainer

step, at = Trainer._step, int(sys.argv.pop(1))

def interrupted(self):
    if self.state.step + 1 == at:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self)

Trainer._step = interrupted
try:
    main()
finally:
    assert "torch._dynamo" not in sys.modules, "torch's compiler takes a second to load, and nothing uses it"
"""


def _nomoat(place: Path, home: Path, *options: str, interrupt_at_step: int = 0) -> tuple[int, str]:
    """Run `nomoat tune`; it gets a real SIGINT as that step begins."""
    command = [
        sys.executable, "-c", _PROGRAM, str(interrupt_at_step), "tune", str(place / "source"), "--json", *options,
        "--base", str(place / "base.gguf"), "--out", str(home / "out"), "--max-steps", "6", "--batch-tokens", "200",
        "--r", "4", "--precision", "fp32",
    ]  # fmt: skip
    environment = {**os.environ, "NOMOAT_HOME": str(home)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def test_ctrl_c_finishes_the_step_saves_and_resumes_to_the_same_bits(
    place: Path, tmp_path: Path, kernel_cache: Path
) -> None:
    status, told = _nomoat(place, tmp_path, interrupt_at_step=3)
    assert (status, json.loads(told)["error"]["code"]) == (130, "interrupted")
    assert len(small_run.metrics(tmp_path / "out")) == 3, "the step that ran was finished"
    status, told = _nomoat(place, tmp_path, "--resume")
    assert status == 0
    assert json.loads(told)["steps"] == 6
    straight = _copy(place, tmp_path / "straight")
    defaults = {"learning_rate": 1e-3, "valid_share": 0.1, "max_length": 512}
    small_run.run(small_run.request(straight, kernel_cache, max_steps=6, precision="fp32", **defaults))
    found, expected = (
        load_file(out / "adapter_model.safetensors") for out in (tmp_path / "out", straight / "out")
    )
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert small_run.metrics(tmp_path / "out") == small_run.metrics(straight / "out")
