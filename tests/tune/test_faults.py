"""What goes wrong in the world: each time an error that names file and remedy, and nothing that existed is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import small_run

from limits import files_of_at_most
from nomoat.base.errors import BadFileError, DiskFullError, InputError, NomoatError, NotEnoughMemoryError
from nomoat.base.manifests import read_manifest
from nomoat.base.progress import Silent
from nomoat.tune.checkpoint import load_checkpoint
from nomoat.tune.pipeline import tune

CHECKPOINT = "checkpoint.safetensors"


@pytest.fixture
def place(tmp_path: Path, tiny_model: Callable[..., Path]) -> Path:
    """A folder with a source and a base of its own."""
    small_run.write_source(tmp_path / "source")
    (tmp_path / "base.gguf").write_bytes(tiny_model("llama", "Q8_0").read_bytes())
    return tmp_path


@pytest.fixture
def begun(place: Path, kernel_cache: Path) -> Path:
    """The same, with a run that was stopped after two steps."""
    answers = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        small_run.run(small_run.request(place, kernel_cache, should_stop=lambda: next(answers)))
    return place


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- the base ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9999])
def test_a_truncated_base_is_refused_by_name_before_any_folder_is_made(
    share: float, place: Path, kernel_cache: Path
) -> None:
    base = place / "base.gguf"
    base.write_bytes(base.read_bytes()[: int(share * base.stat().st_size)])
    with pytest.raises(BadFileError, match=r"base\.gguf") as error:
        small_run.run(small_run.request(place, kernel_cache))
    assert error.value.hint
    assert not (place / "out").exists()


def test_a_base_without_one_of_its_layers_is_refused_by_name(place: Path, kernel_cache: Path) -> None:
    base = place / "base.gguf"
    base.write_bytes(base.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.7.ffn_up.weight"))
    with pytest.raises(BadFileError, match=r"blk\.1\.ffn_up\.weight"):
        small_run.run(small_run.request(place, kernel_cache))
    assert not (place / "out").exists()


def test_a_run_that_cannot_fit_into_memory_is_refused_with_figures(place: Path, kernel_cache: Path) -> None:
    with pytest.raises(NotEnoughMemoryError, match="GiB"):
        small_run.run(small_run.request(place, kernel_cache, memory_bytes=10 * 2**20))


# -- the run's own files -------------------------------------------------------------------------


def test_a_corrupt_checkpoint_is_refused_and_the_run_can_be_started_anew_without_it(
    begun: Path, kernel_cache: Path
) -> None:
    checkpoint = begun / "out" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    before = _content(begun)
    with pytest.raises(BadFileError, match=CHECKPOINT) as error:
        small_run.run(small_run.request(begun, kernel_cache, resume=True))
    assert "delete it" in error.value.hint
    assert _content(begun) == before
    checkpoint.unlink()
    assert (
        small_run.run(small_run.request(begun, kernel_cache, resume=True)).training.steps == small_run.STEPS
    )
    assert [record["step"] for record in small_run.metrics(begun / "out")] == [*range(1, small_run.STEPS + 1)]


def test_a_dataset_that_was_changed_is_refused(begun: Path, kernel_cache: Path) -> None:
    with (begun / "out" / "dataset" / "train.jsonl").open("a") as rows:
        rows.write('{"id": "1", "group": "1", "source": "x", "text": "smuggled in"}\n')
    with pytest.raises(InputError, match="another base, dataset"):
        small_run.run(small_run.request(begun, kernel_cache, resume=True))


def test_a_dataset_that_got_lost_is_told_as_such(begun: Path, kernel_cache: Path) -> None:
    (begun / "out" / "dataset" / "manifest.json").unlink()
    with pytest.raises(BadFileError, match="dataset") as error:
        small_run.run(small_run.request(begun, kernel_cache, resume=True))
    assert "another --out" in error.value.hint


def test_a_damaged_plan_is_refused(begun: Path, kernel_cache: Path) -> None:
    (begun / "out" / "plan.json").write_text("{}")
    with pytest.raises(BadFileError, match=r"plan\.json"):
        small_run.run(small_run.request(begun, kernel_cache, resume=True))


def test_a_changed_source_does_not_matter_to_a_run_that_was_begun(begun: Path, kernel_cache: Path) -> None:
    (begun / "source" / "new.md").write_text("Something new since then.\n")
    assert (
        small_run.run(small_run.request(begun, kernel_cache, resume=True)).training.steps == small_run.STEPS
    )


# -- the disk ------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_during_a_checkpoint_leaves_the_earlier_one_to_resume_from(
    begun: Path, kernel_cache: Path
) -> None:
    good = (begun / "out" / CHECKPOINT).read_bytes()
    with files_of_at_most(len(good) // 2), pytest.raises(DiskFullError, match=CHECKPOINT) as error:
        small_run.run(small_run.request(begun, kernel_cache, resume=True))
    assert "free some space" in error.value.hint
    assert (begun / "out" / CHECKPOINT).read_bytes() == good
    assert not list((begun / "out").glob(".*part"))
    assert (
        small_run.run(small_run.request(begun, kernel_cache, resume=True)).training.steps == small_run.STEPS
    )


def test_a_disk_that_is_full_from_the_start_is_told_as_such(place: Path, kernel_cache: Path) -> None:
    with files_of_at_most(100), pytest.raises(DiskFullError) as error:
        small_run.run(small_run.request(place, kernel_cache))
    assert "free some space" in error.value.hint
    assert not list((place / "out").rglob("*"))


def test_a_disk_that_fills_up_at_export_loses_nothing_of_the_training(
    place: Path, kernel_cache: Path
) -> None:
    with ExitStack() as full_disk:

        class Filling(Silent):
            def start(self, label: str, total: float | None = None, unit: str = "") -> None:
                self.label = label

            def finish(self, note: str = "") -> None:
                if self.label == "train":
                    full_disk.enter_context(files_of_at_most(50_000))

        with pytest.raises(DiskFullError, match="adapter_model"):
            tune(small_run.request(place, kernel_cache), Filling())
    assert load_checkpoint(place / "out" / CHECKPOINT)[0].step == small_run.STEPS
    resumed = small_run.run(small_run.request(place, kernel_cache, resume=True))
    assert resumed.training.steps == small_run.STEPS
    read_manifest(place / "out", "adapter", verify=True)


# -- the training itself -------------------------------------------------------------------------


def test_a_run_that_diverges_says_so_and_what_to_do(place: Path, kernel_cache: Path) -> None:
    with pytest.raises(NomoatError, match=r"diverged at step \d+") as error:
        small_run.run(small_run.request(place, kernel_cache, learning_rate=1e30))
    assert "lower --learning-rate" in error.value.hint
    assert not (place / "out" / "adapter.gguf").exists()
    assert not (place / "out" / "manifest.json").exists()


# -- other people's files ------------------------------------------------------------------------


def test_a_finished_folder_is_never_trained_into(place: Path, kernel_cache: Path) -> None:
    small_run.run(small_run.request(place, kernel_cache, max_steps=1))
    before = _content(place)
    for resume in (False, True):
        with pytest.raises(InputError, match="finished adapter"):
            small_run.run(small_run.request(place, kernel_cache, max_steps=1, resume=resume))
    assert _content(place) == before


@pytest.mark.parametrize("name", ["notes.md", "dataset/train.jsonl", "adapter.gguf"])
def test_a_folder_with_files_of_others_is_refused_and_left_alone(
    name: str, place: Path, kernel_cache: Path
) -> None:
    mine = place / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    before = _content(place)
    with pytest.raises(InputError, match="not empty"):
        small_run.run(small_run.request(place, kernel_cache))
    assert _content(place) == before


def test_hidden_files_of_others_stay_beside_the_adapter(place: Path, kernel_cache: Path) -> None:
    (place / "out" / ".git").mkdir(parents=True)
    (place / "out" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    small_run.run(small_run.request(place, kernel_cache, max_steps=1))
    assert (place / "out" / ".git" / "HEAD").read_text() == "ref: refs/heads/main\n"


def test_the_source_is_never_written_to(place: Path, kernel_cache: Path) -> None:
    before = _content(place / "source")
    small_run.run(small_run.request(place, kernel_cache, max_steps=1))
    assert _content(place / "source") == before


def test_a_source_that_is_not_there_leaves_no_folder_that_blocks_the_next_try(
    place: Path, kernel_cache: Path
) -> None:
    asked = small_run.request(place, kernel_cache, max_steps=1)
    with pytest.raises(NomoatError, match="nowhere"):
        small_run.run(replace(asked, source=place / "nowhere"))
    assert small_run.run(asked).training.steps == 1
