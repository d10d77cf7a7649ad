"""A checkpoint is whole or it is the one before; what is damaged is never trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from limits import files_of_at_most
from nomoat.base.errors import BadFileError, DiskFullError
from nomoat.tune.checkpoint import RunState, load_checkpoint, save_checkpoint

STATE = RunState(
    "sha256:run", step=7, total_steps=20, train_tokens=900, train_seconds=1.25, metrics_bytes=512
)


def _tensors(count: int = 1000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {name: torch.randn(count, generator=generator) for name in ("values", "exp_avg", "exp_avg_sq")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, STATE, _tensors())
    return path


def test_what_was_saved_comes_back_bit_for_bit(path: Path) -> None:
    state, tensors = load_checkpoint(path)
    assert state == STATE
    assert tensors.keys() == _tensors().keys()
    assert all(torch.equal(tensors[name], values) for name, values in _tensors().items())


@settings(max_examples=20)
@given(
    st.builds(
        RunState, st.text(), st.integers(0, 2**50), st.integers(0, 2**50), st.integers(0, 2**60),
        st.floats(0, 1e12), st.integers(0, 2**60),
    )
)  # fmt: skip
def test_any_counters_come_back(tmp_path_factory: pytest.TempPathFactory, state: RunState) -> None:
    path = tmp_path_factory.getbasetemp() / "counters.safetensors"
    save_checkpoint(path, state, {"values": torch.ones(1)})
    assert load_checkpoint(path)[0] == state


def test_a_newer_checkpoint_replaces_the_older_and_leaves_nothing_beside_it(path: Path) -> None:
    save_checkpoint(path, RunState("sha256:run", step=8), _tensors())
    assert load_checkpoint(path)[0].step == 8
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 5, 100, 5000])
def test_a_truncated_checkpoint_is_refused_by_name_with_a_remedy(kept: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadFileError, match=path.name) as error:
        load_checkpoint(path)
    assert "delete it" in error.value.hint


@pytest.mark.parametrize("place", [-1, -6000, 60, 400])
def test_a_single_wrong_bit_is_noticed(place: int, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=path.name):
        load_checkpoint(path)


def test_a_file_of_another_program_is_refused(path: Path) -> None:
    save_file(_tensors(), path)
    with pytest.raises(BadFileError, match="no checkpoint of nomoat"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_version_is_refused(path: Path) -> None:
    save_file(_tensors(), path, {"nomoat.version": "2", "nomoat.state": "{}", "nomoat.digest": ""})
    with pytest.raises(BadFileError, match="version 2"):
        load_checkpoint(path)


def test_a_full_disk_is_told_as_such_and_the_earlier_checkpoint_stays(path: Path) -> None:
    before = path.read_bytes()
    with files_of_at_most(50_000), pytest.raises(DiskFullError, match=path.name) as error:
        save_checkpoint(path, RunState("sha256:run", step=8), _tensors(100_000))
    assert "free some space" in error.value.hint
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
