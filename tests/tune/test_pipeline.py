"""`tune` from end to end on a tiny base: own text in, an adapter that llama.cpp serves out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
import small_run
import torch
from serving import LlamaCpp

from nomoat import __version__
from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, InputError
from nomoat.base.manifests import read_manifest
from nomoat.base.progress import Silent
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.fingerprint import tensor_fingerprint
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.share.trust.keys import new_key
from nomoat.share.trust.provenance import read_provenance, sign_provenance
from nomoat.tune.config import read_config
from nomoat.tune.dataset import read_rows
from nomoat.tune.pipeline import tune
from nomoat.tune.result import TuneResult
from nomoat.tune.tokenise import tokenise


class Listener(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, text: str) -> None:
        self.sentences.append(text)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path], kernel_cache: Path
) -> TuneResult:
    """A run from beginning to end, verified against llama.cpp."""
    folder = tmp_path_factory.mktemp("finished")
    small_run.write_source(folder / "source")
    (folder / "base.gguf").symlink_to(tiny_model("llama", "Q8_0"))
    return small_run.run(small_run.request(folder, kernel_cache), LlamaCpp(folder / "base.gguf"))


@pytest.fixture
def place(tmp_path: Path, tiny_model: Callable[..., Path]) -> Path:
    small_run.write_source(tmp_path / "source")
    (tmp_path / "base.gguf").symlink_to(tiny_model("llama", "Q8_0"))
    return tmp_path


def test_it_learned(finished: TuneResult) -> None:
    assert finished.after.loss.estimate < 0.5 * finished.before.loss.estimate
    assert finished.change.estimate < 0
    assert finished.training.steps == small_run.STEPS


def test_the_folder_is_a_finished_adapter_whose_files_are_those_that_were_written(
    finished: TuneResult,
) -> None:
    out = finished.request.out
    manifest = read_manifest(out, "adapter", verify=True)
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "adapter.gguf",
        "config.toml",
        "metrics.jsonl",
    } <= set(manifest.files)
    assert manifest.parents["base"] == finished.request.base.digest
    assert not (out / "checkpoint.safetensors").exists()
    assert read_config(out / "config.toml") == finished.request.config
    assert len(small_run.metrics(out)) == small_run.STEPS


def test_the_json_has_what_scripts_rely_on(finished: TuneResult) -> None:
    told = json.loads(json.dumps(finished.as_json()))
    assert {
        "train_tokens",
        "train_tokens_per_second",
        "peak_memory_bytes",
        "before",
        "after",
        "adapter",
    } <= set(told)
    for part in ("before", "after"):
        assert {"loss", "loss_interval", "bits_per_byte", "bits_per_byte_interval"} <= set(told[part])
    assert told["train_tokens"] == small_run.metrics(finished.request.out)[-1]["tokens"]
    assert told["verification"]["divergence"] < 0.05


def test_the_held_out_loss_told_is_what_llama_cpp_finds_with_the_adapter(finished: TuneResult) -> None:
    request = finished.request
    with Vocabulary.open(request.base.path) as vocabulary:
        template = ChatTemplate.from_gguf(read_gguf(request.base.path))
        rows = read_rows(request.out / "dataset", "valid")
        examples, _ = tokenise(rows, vocabulary, template, request.config.max_length)
    serve = LlamaCpp(request.base.path)
    for adapter, told in ((None, finished.before), (request.out / "adapter.gguf", finished.after)):
        losses = []
        for example in examples:
            logits = torch.from_numpy(serve(example.tokens.tolist(), adapter))[:-1]
            chosen = torch.log_softmax(logits, -1).gather(
                1, torch.from_numpy(example.tokens[1:]).long()[:, None]
            )
            losses.append(-chosen[torch.from_numpy(example.supervised[1:])].flatten())
        # The trainer computes in bf16, llama.cpp rounds activations to 8 bits.
        assert float(torch.cat(losses).mean()) == pytest.approx(told.loss.estimate, rel=0.02)


def test_a_witness_sees_the_dataset_before_and_the_adapter_after(place: Path, kernel_cache: Path) -> None:
    class Witness:
        seen: list[str]

        def before(self, dataset: Path) -> None:
            assert (dataset / "valid.jsonl").is_file()
            assert not (dataset.parent / "metrics.jsonl").exists()
            self.seen = ["before"]

        def after(self, adapter: Path) -> None:
            assert adapter.is_file()
            self.seen.append("after")

    witness = Witness()
    tune(small_run.request(place, kernel_cache, max_steps=1), Silent(), witness=witness)
    assert witness.seen == ["before", "after"]


def test_documents_are_cut_to_what_the_model_can_read_and_that_is_said(
    place: Path, kernel_cache: Path
) -> None:
    (place / "source" / "long.md").write_text("A word after a word after a word. " * 60)
    listener = Listener()
    asked = small_run.request(place, kernel_cache, max_steps=1, max_length=4096, batch_tokens=2000)
    result = tune(asked, listener)
    assert result.request.config.max_length == 512
    assert any("512 tokens" in sentence for sentence in listener.sentences)


def test_a_budget_too_small_for_anything_still_trains_one_step(place: Path, kernel_cache: Path) -> None:
    result = small_run.run(small_run.request(place, kernel_cache, budget_seconds=0.5))
    assert result.training.steps == 1


def test_epochs_follow_from_the_text(place: Path, kernel_cache: Path) -> None:
    result = small_run.run(small_run.request(place, kernel_cache, epochs=1.0))
    rows = [json.loads(line) for line in (place / "out" / "dataset" / "train.jsonl").read_text().splitlines()]
    assert result.training.train_tokens > sum(len(row.get("text") or "") for row in rows)
    assert result.training.train_tokens == small_run.metrics(place / "out")[-1]["tokens"]


def test_documents_longer_than_a_step_are_trained_all_the_same(place: Path, kernel_cache: Path) -> None:
    result = small_run.run(small_run.request(place, kernel_cache, epochs=1.0, batch_tokens=20))
    assert all(np.isfinite(record["loss"]) for record in small_run.metrics(place / "out"))
    assert result.training.steps > 5


# -- folders that lie within each other ----------------------------------------------------------


def test_an_out_folder_within_the_source_is_never_learned_from(place: Path, kernel_cache: Path) -> None:
    inside = place / "source" / "adapters"
    for name in ("first", "second"):
        small_run.run(replace(small_run.request(place, kernel_cache, max_steps=1), out=inside / name))
        (inside / name / "README.md").write_text(
            "# What nomoat wrote about the adapter\n\nNothing to learn here.\n"
        )
    texts = (inside / "second" / "dataset" / "train.jsonl").read_text()
    assert "adapters/" not in texts
    assert "Nothing to learn here" not in texts
    sources = {json.loads(line)["source"] for line in texts.splitlines()}
    assert all(source == "chats.jsonl" or source.startswith("note") for source in sources)


@pytest.mark.parametrize("out", ["source", "."])
def test_an_out_folder_that_holds_the_source_is_refused_and_nothing_is_touched(
    out: str, place: Path, kernel_cache: Path
) -> None:
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    asked = small_run.request(place, kernel_cache)
    with pytest.raises(InputError, match="not empty"):
        tune(replace(asked, out=place / out), Silent())
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_the_same_run_twice_gives_the_same_bits(
    finished: TuneResult, place: Path, kernel_cache: Path
) -> None:
    small_run.run(small_run.request(place, kernel_cache))
    for name in ("adapter_model.safetensors", "adapter.gguf", "config.toml"):
        assert (place / "out" / name).read_bytes() == (finished.request.out / name).read_bytes()


def test_every_architecture_runs_from_end_to_end(tmp_path: Path, kernel_cache: Path) -> None:
    small_run.write_source(tmp_path / "source")
    oracle.tiny_gguf(tmp_path / "base.gguf", "qwen2", "Q4_K", tied=False)
    result = small_run.run(small_run.request(tmp_path, kernel_cache), LlamaCpp(tmp_path / "base.gguf"))
    assert result.after.loss.estimate < result.before.loss.estimate


def test_its_provenance_can_be_signed_and_names_base_data_recipe_and_machine(finished: TuneResult) -> None:
    key = new_key()
    told = read_provenance(sign_provenance(finished.request.out, key), [key.public])
    manifest = read_manifest(finished.request.out, "adapter")
    assert told.signer == key.public and told.base_digest == finished.request.base.digest
    assert told.outputs["adapter.gguf"] == manifest.files["adapter.gguf"]["sha256"]
    assert told.data["train.jsonl"] == sha256_file(finished.request.out / "dataset" / "train.jsonl")
    build = told.statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["recipe"]["seed"] == finished.request.config.seed
    assert build["internalParameters"]["machine"]["torch"] == torch.__version__
    assert told.statement["predicate"]["runDetails"]["builder"]["version"] == {"nomoat": __version__}
    assert told.statement["predicate"]["nomoat"]["results"]["verdict"] == finished.verdict
    assert "note0.md" not in json.dumps(told.statement)  # names of the owner's files stay at home
    assert manifest.details["base_tensors"] == tensor_fingerprint(read_gguf(finished.request.base.path))


def test_its_provenance_is_not_made_of_files_that_were_changed(finished: TuneResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.request.out, folder)
    (folder / "config.toml").write_text("seed = 7\n")
    with pytest.raises(BadFileError, match="differs from its manifest"):
        sign_provenance(folder, new_key())
