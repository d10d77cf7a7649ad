"""Cards: computed from the files, with the owner's words kept, and read by Hugging Face's own library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adapter_folder import BASE_DIGEST, write_adapter
from huggingface_hub import ModelCard

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.manifests import read_manifest
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.safetensors_file import safetensors_bytes
from nomoat.share.cards.computed import BEGIN, END, compute_card
from nomoat.share.cards.front_matter import split_front_matter, with_front_matter
from nomoat.share.cards.licences import find_licence, hub_fields, most_binding
from nomoat.share.cards.published import published_manifest
from nomoat.store.adapters import AUDIT_NAME


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "notes")


def test_an_adapters_card_says_what_its_files_say(folder: Path) -> None:
    fields, body = split_front_matter(compute_card(folder, data_licence="own").text())
    assert (fields["license"], fields["library_name"], fields["pipeline_tag"]) == (
        "apache-2.0",
        "peft",
        "text-generation",
    )
    assert (fields["base_model"], fields["base_model_relation"]) == ("somebody/tiny-chat", "adapter")
    own = fields["nomoat"]
    assert (own["base_digest"], own["r"], own["lora_alpha"], own["target_modules"]) == (
        BASE_DIGEST,
        4,
        8.0,
        ["q_proj"],
    )
    assert (own["architecture"], own["parameters"]) == ("llama", 2 * 4 * 32)
    manifest = read_manifest(folder, "adapter")
    weights = own["weights"]["adapter.gguf"]
    assert weights["digest"] == manifest.files["adapter.gguf"]["sha256"] and weights["tensors"] == 2
    assert own["dataset"]["train"]["texts"] == 1 and own["dataset"]["licence"] == "own"
    assert (own["forgetting"], own["audit"]) == ("not measured", "not measured")
    assert own["scores"]["before"]["bits_per_byte"] == 1.9
    assert "| bits per byte | 1.9 (1 to 2) | 0.9 (1 to 2) |" in body and "not measured" in body
    assert "my-diary" not in body + str(fields) and str(folder.parent) not in body + str(fields)


def test_hugging_faces_library_reads_the_card(folder: Path) -> None:
    card = ModelCard(compute_card(folder).text())
    assert card.data.base_model == "somebody/tiny-chat" and card.data.license == "apache-2.0"
    assert "base_model:adapter:somebody/tiny-chat" in card.data.tags


def test_what_was_measured_is_told(tmp_path: Path) -> None:
    general = {name: {"estimate": value} for name, value in (("before", 1.01), ("after", 1.25))}
    folder = write_adapter(tmp_path / "notes", report={"general": general})
    (folder / AUDIT_NAME).write_text('{"tested": 40, "memorised": 3}')
    body = compute_card(folder).body
    assert "1.01 bits per byte of general text before, 1.25 after" in body
    assert "3 of 40 training texts continued verbatim" in body
    digest = read_manifest(folder, "adapter").files["adapter.gguf"]["sha256"]
    for adapter, told in ((digest, True), ("sha256:" + "0" * 64, False)):
        (folder / AUDIT_NAME).write_text(json.dumps({"adapter": adapter, "tested": 40, "memorised": 3}))
        assert ("3 of 40" in compute_card(folder).body) == told


def test_a_single_file_is_called_as_on_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "0a1b2c"
    write_gguf(path, {"general.architecture": "llama"}, {"a.weight": np.zeros((32, 32), np.float32)})
    path = path.rename(tmp_path / "0a1b2c.gguf")
    card = compute_card(path, name="tea", file_name="tea.F32.gguf", licence="mit")
    assert list(card.fields["nomoat"]["weights"]) == ["tea.F32.gguf"] and "# tea\n" in card.text()
    assert "0a1b2c" not in card.text()


def test_the_owners_words_and_fields_stay_when_the_adapter_is_pushed_again(
    folder: Path, tmp_path: Path
) -> None:
    first = compute_card(folder).text()
    edited = first.replace("# notes\n", "# My notes\n\nThey are about *tea*.\n", 1).replace(
        "license: apache-2.0", "license: mit\nlanguage: de", 1
    )  # fmt: skip
    edited = edited.replace("tags:\n", "tags:\n- tea\n", 1) + "\nAsk me anything.\n"
    again = compute_card(write_adapter(tmp_path / "again", seed=3), previous=edited).text(edited)
    fields, body = split_front_matter(again)
    assert "They are about *tea*." in body and body.rstrip().endswith("Ask me anything.")
    assert (fields["license"], fields["language"]) == ("mit", "de") and {"tea", "lora"} <= set(fields["tags"])
    assert body.count(BEGIN) == body.count(END) == 1
    old = split_front_matter(first)[0]["nomoat"]["weights"]["adapter.gguf"]["digest"]
    assert old not in again


def test_a_card_from_elsewhere_keeps_its_text(folder: Path) -> None:
    text = compute_card(folder).text("---\nlicense: mit\n---\n\nHand-written.\n")
    assert split_front_matter(text)[1].startswith("Hand-written.\n\n" + BEGIN)


def test_names_in_files_cannot_become_markup(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    weight = {"a.weight": np.zeros((32, 32), np.float32)}
    write_gguf(path, {"general.architecture": "x` | <script>\n# y", "general.license": "MIT"}, weight)
    body = compute_card(path).body
    assert "| architecture | `x' / <script> # y` |" in body


def test_a_models_files_are_described(tmp_path: Path) -> None:
    weight = {"a.weight": np.zeros((32, 64), np.float32)}
    origin = {"general.base_model.count": 1, "general.base_model.0.repo_url": "https://huggingface.co/a/b"}
    header = {"general.architecture": "llama", "general.license": "mit", **origin}
    write_gguf(tmp_path / "m.gguf", header, weight)
    card = compute_card(tmp_path / "m.gguf")
    assert (card.licence, card.fields["base_model"], card.fields["base_model_relation"]) == (
        "mit",
        "a/b",
        "quantized",
    )
    assert card.fields["nomoat"]["parameters"] == 2048 and card.facts.quantisation == "F32"
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "model.safetensors").write_bytes(safetensors_bytes(weight, {}))
    (tmp_path / "st" / "config.json").write_text('{"model_type": "llama"}')
    facts = compute_card(tmp_path / "st").facts
    assert (facts.kind, facts.architecture, facts.parameters, facts.quantisation) == (
        "safetensors",
        "llama",
        2048,
        "F32",
    )


def test_what_is_no_model_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        compute_card(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadFileError):
        compute_card(tmp_path)


@pytest.mark.parametrize(
    "block", ["- a list", "a: [", "a: &x [1]\nb: *x", "a: !!python/object:os.system x", "[" * 5000, "text"]
)  # fmt: skip
def test_front_matter_that_is_none_is_refused(block: str) -> None:
    with pytest.raises(InputError, match="front matter"):
        split_front_matter(f"---\n{block}\n---\nbody")


def test_front_matter_holds_only_what_json_holds() -> None:
    fields, body = split_front_matter("---\nd: 2024-05-01\nn: .inf\nt: [1, {2: x}]\n---\nbody\n---\nmore\n")
    assert fields == {"d": "2024-05-01", "n": None, "t": [1, {"2": "x"}]} and body == "body\n---\nmore\n"
    assert split_front_matter(with_front_matter(fields, body)) == (fields, body)
    assert split_front_matter("no block") == ({}, "no block") and with_front_matter({}, "x") == "x"


def test_licences_are_found_by_either_id() -> None:
    gpl = find_licence("GPL-3.0-only")
    assert gpl is not None and gpl is find_licence("gpl-3.0") and gpl.pass_on
    assert hub_fields("Apache-2.0") == {"license": "apache-2.0"} and hub_fields(" ") == {}
    assert hub_fields("My own! licence") == {"license": "other", "license_name": "my-own-licence"}
    assert "must be under" in most_binding("llama3.2", "apache-2.0")
    assert "earn" in most_binding("CC-BY-NC-4.0", "mit")
    assert not most_binding("mit", "gpl-3.0") and not most_binding("gpl-3.0", "GPL-3.0-only")


def test_what_is_published_names_only_what_goes_along(folder: Path, tmp_path: Path) -> None:
    names = ["adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "README.md"]
    sent = tmp_path / "sent"
    sent.mkdir()
    for name in names[:-1]:
        (sent / name).write_bytes((folder / name).read_bytes())
    (sent / "README.md").write_text("anything: the owner may change it")
    (sent / "manifest.json").write_bytes(published_manifest(folder, names))
    manifest = read_manifest(sent, "adapter", verify=True)
    assert set(manifest.files) == set(names[:-1]) and manifest.parents["base"] == BASE_DIGEST
    assert str(tmp_path) not in (sent / "manifest.json").read_text()


def test_an_image_lora_stays_with_the_library_that_its_owner_names(tmp_path: Path) -> None:
    weights = {"lora_unet_down.lora_down.weight": np.zeros((4, 8), np.float32)}
    (tmp_path / "dunes.safetensors").write_bytes(safetensors_bytes(weights, {}))
    before = with_front_matter({"library_name": "diffusers", "license": "mit"}, "# Dunes\n")
    fields, _ = split_front_matter(compute_card(tmp_path, previous=before).text(previous=before))
    assert fields["library_name"] == "diffusers"
    assert compute_card(tmp_path).fields["library_name"] == "transformers"
