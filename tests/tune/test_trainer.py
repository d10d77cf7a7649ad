"""The training loop: it learns, tells what it does, and stops in good order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nomoat.base.errors import BadFileError, NomoatError
from nomoat.base.progress import Silent
from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.architecture import LINEARS
from nomoat.tune.checkpoint import RunState, load_checkpoint
from nomoat.tune.config import TuneConfig
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import FusedOps
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example
from nomoat.tune.trainer import Trainer

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
Make = Callable[..., Trainer]


def _documents() -> list[Example]:
    """Documents that repeat a few patterns: something that can be learned."""
    documents = []
    for i in range(12):
        tokens = np.tile(np.arange(3 + i % 4, dtype=np.int32) * 7, 12)[: 20 + 3 * i]
        documents.append(Example(tokens, np.ones(len(tokens), np.bool_), str(i), len(tokens)))
    return documents


@pytest.fixture
def make(tmp_path: Path, tiny_model: Callable[..., Path], fused: FusedOps) -> Make:
    """`make(steps, learning_rate=..., micro_tokens=...)`: a trainer that writes into `tmp_path`."""

    def trainer(
        steps: int,
        *,
        micro_tokens: int = 200,
        should_stop: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> Trainer:
        config = TuneConfig(max_steps=steps, batch_tokens=150, r=4, **options)
        file = read_gguf(tiny_model("llama", "Q8_0"))
        parameters = AdapterParameters(adapter_modules(file, list(LINEARS)), 4, 8.0, torch.float32, 0)
        network = Network(file, parameters, fused, torch.float32, 64, keep=True, recompute=False)
        made = Trainer(network, _documents(), config, micro_tokens, tmp_path, "sha256:run", should_stop)
        made.state.total_steps = steps
        return made

    return trainer


def _as_planned(state: RunState) -> int:
    return state.total_steps


def _records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_the_loss_goes_down(make: Make, tmp_path: Path) -> None:
    make(20, learning_rate=5e-3).run(Silent(), _as_planned)
    losses = [record["loss"] for record in _records(tmp_path)]
    assert losses[-1] < losses[0] / 2


def test_each_step_leaves_a_line_of_metrics(make: Make, tmp_path: Path) -> None:
    trainer = make(5)
    result = trainer.run(Silent(), _as_planned)
    records = _records(tmp_path)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert records[-1]["tokens"] == result.train_tokens
    assert set(records[0]) == {"step", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"}


def test_only_real_tokens_count(make: Make) -> None:
    trainer = make(1)
    trainer.state.total_steps = trainer.batches.steps_per_epoch
    result = trainer.run(Silent(), _as_planned)
    assert result.train_tokens == sum(len(document.tokens) for document in _documents())


def test_the_first_loss_is_the_mean_over_all_supervised_tokens_of_the_step(
    make: Make, tmp_path: Path
) -> None:
    trainer = make(1)
    batch = pack([trainer.examples[i] for i in trainer.batches.step(0)])
    expected = float(trainer.network.losses(batch).mean())
    trainer.run(Silent(), _as_planned)
    assert _records(tmp_path)[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_small_portions_learn_the_same_as_a_large_one(make: Make, tmp_path: Path) -> None:
    found = []
    for micro_tokens in (1, 60, 10_000):
        trainer = make(3, micro_tokens=micro_tokens)
        trainer.run(Silent(), _as_planned)
        found.append([record["loss"] for record in _records(tmp_path)])
        for name in (CHECKPOINT, METRICS):
            (tmp_path / name).unlink()
    assert found[0] == pytest.approx(found[2], rel=1e-4)
    assert found[1] == pytest.approx(found[2], rel=1e-4)


def test_a_gradient_beyond_the_limit_is_shortened_to_it(make: Make) -> None:
    # AdamW divides by the gradient's size, so it shows in the first moment: (1 - 0.9) * gradient.
    trainer = make(1, max_grad_norm=1e-3)
    trainer.run(Silent(), _as_planned)
    _, tensors = load_checkpoint(trainer.folder / CHECKPOINT)
    assert float(tensors["exp_avg"].norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_a_probe_changes_nothing(make: Make) -> None:
    trainer = make(1)
    before = trainer.network.parameters.values.clone()
    assert trainer.probe_seconds() > 0
    assert torch.equal(trainer.network.parameters.values, before)
    assert not trainer.network.parameters.gradients.any()
    assert trainer.state.step == 0


def test_a_plan_that_shrinks_ends_the_run(make: Make) -> None:
    trainer = make(10)
    result = trainer.run(Silent(), lambda state: 4)
    assert result.steps == 4


def test_a_stop_saves_what_was_learned_and_is_told_as_an_interruption(make: Make, tmp_path: Path) -> None:
    answers = iter([False, False, True])
    trainer = make(10, should_stop=lambda: next(answers))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Silent(), _as_planned)
    state, tensors = load_checkpoint(tmp_path / CHECKPOINT)
    assert (state.step, state.total_steps) == (3, 10)
    assert torch.equal(tensors["values"], trainer.network.parameters.values)
    assert state.metrics_bytes == (tmp_path / METRICS).stat().st_size


def test_a_resumed_trainer_goes_on_as_if_it_had_never_stopped(make: Make, tmp_path: Path) -> None:
    whole = make(6)
    whole.run(Silent(), _as_planned)
    straight = [
        {k: v for k, v in record.items() if k != "tokens_per_second"} for record in _records(tmp_path)
    ]
    for name in (CHECKPOINT, METRICS):
        (tmp_path / name).unlink()
    answers = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        make(6, should_stop=lambda: next(answers)).run(Silent(), _as_planned)
    with (tmp_path / METRICS).open("a") as metrics:
        metrics.write('{"step": 3, "loss": 1')  # what a killed run wrote after its last checkpoint
    resumed = make(6)
    assert resumed.resume()
    resumed.run(Silent(), _as_planned)
    assert torch.equal(resumed.network.parameters.values, whole.network.parameters.values)
    records = [{k: v for k, v in record.items() if k != "tokens_per_second"} for record in _records(tmp_path)]
    assert records == straight


def test_where_there_is_no_checkpoint_there_is_nothing_to_resume(make: Make) -> None:
    assert make(1).resume() is False


def test_a_checkpoint_of_another_run_is_refused(make: Make) -> None:
    make(1).run(Silent(), _as_planned)
    other = make(1)
    other.state.fingerprint = "sha256:other"
    with pytest.raises(NomoatError, match="another base, dataset or option"):
        other.resume()


def test_metrics_that_got_lost_are_not_replaced_by_nothing(make: Make, tmp_path: Path) -> None:
    answers = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        make(6, should_stop=lambda: next(answers)).run(Silent(), _as_planned)
    (tmp_path / METRICS).unlink()
    resumed = make(6)
    resumed.resume()
    with pytest.raises(BadFileError, match=METRICS):
        resumed.run(Silent(), _as_planned)


@pytest.mark.parametrize("learning_rate", [1e10, 1e38], ids=["the gradient", "the adapter itself"])
def test_a_run_that_diverges_is_told_as_such_and_keeps_the_last_good_checkpoint(
    learning_rate: float, make: Make, tmp_path: Path
) -> None:
    answers = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        make(30, should_stop=lambda: next(answers)).run(Silent(), _as_planned)
    good = (tmp_path / CHECKPOINT).read_bytes()
    wild = make(30, learning_rate=learning_rate, max_grad_norm=1e30)
    wild.resume()
    with pytest.raises(NomoatError, match=r"diverged at step \d+") as error:
        wild.run(Silent(), _as_planned)
    assert "lower --learning-rate" in error.value.hint
    assert (tmp_path / CHECKPOINT).read_bytes() == good


def test_an_adapter_that_became_infinite_in_the_last_step_is_not_taken_for_a_result(make: Make) -> None:
    with pytest.raises(NomoatError, match="adapter is not finite"):
        make(1, learning_rate=1e300).run(Silent(), _as_planned)
