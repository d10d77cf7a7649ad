"""README.md of an adapter folder: valid for the Hub and PEFT, and without a word of the owner's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from finished_run import finished_run, questions

from nomoat.store.embedded import EMBEDDED_DIGEST
from nomoat.tune.report import run_command, write_report
from nomoat.tune.report_card import front_matter
from nomoat.tune.report_facts import gather_facts

EXACT = {
    "before": {"exact": 0.0, "low": 0.0, "high": 0.025, "n": 150},
    "after": {"exact": 0.76, "low": 0.685, "high": 0.82, "n": 150},
}


def _card(folder: Path, **choices: Any) -> tuple[dict[str, Any], str]:
    yaml = pytest.importorskip("yaml")
    write_report(finished_run(folder, **choices), {"exact": EXACT, "samples": questions()})
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_has_the_front_matter_that_the_hub_and_peft_read(tmp_path: Path) -> None:
    head, body = _card(tmp_path, base={"digest": EMBEDDED_DIGEST})
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["base_model_relation"] == "adapter"
    assert head["library_name"] == "peft"
    assert head["license"] == "apache-2.0"
    assert {"lora", "gguf", "base_model:adapter:HuggingFaceTB/SmolLM2-135M-Instruct"} <= set(head["tags"])
    assert f"`{EMBEDDED_DIGEST}`" in body
    assert "| lora_alpha | 32 |" in body
    assert f"nomoat run smollm2 --adapter ./{tmp_path.name}" in body
    assert "--lora adapter.gguf" in body
    assert 'from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")' in body


def test_the_card_loads_in_huggingface_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    write_report(finished_run(tmp_path))
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.license == "apache-2.0"


def test_the_card_never_holds_the_owners_text_names_of_files_or_paths(tmp_path: Path) -> None:
    _, body = _card(tmp_path, source="/home/marta/divorce papers")
    for private in ("Marta", "marta", "divorce", "diary", "Lapsang", str(tmp_path.parent)):
        assert private not in body


def test_a_base_that_the_hub_does_not_know_is_not_named_as_if_it_did(tmp_path: Path) -> None:
    head, body = _card(tmp_path, base={"name": "/home/marta/my.gguf", "licence": ""})
    assert "base_model" not in head
    assert "license" not in head
    assert "states no licence" in body
    assert "/home" not in body


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("Qwen Research", {"license": "other", "license_name": "qwen-research"}),
        ('x"\nbase_model: evil\n---\n', {"license": "other", "license_name": "x-base-model-evil"}),
    ],
)
def test_the_licence_of_the_base_is_inherited(tmp_path: Path, licence: str, expected: dict[str, str]) -> None:
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(front_matter(gather_facts(finished_run(tmp_path, base={"licence": licence}))))
    assert {name: value for name, value in head.items() if name.startswith("license")} == expected
    assert "base_model" not in head


def test_a_hostile_folder_name_breaks_neither_card_nor_command(tmp_path: Path) -> None:
    folder = tmp_path / 'a`b\'c; rm -rf "x"'
    head, body = _card(folder)
    assert head["library_name"] == "peft"
    command = next(line for line in body.splitlines() if line.startswith("nomoat run"))
    assert len(shlex.split(command)) == 5
    assert shlex.split(run_command(finished_run(folder))) == [
        "nomoat",
        "run",
        "smollm2",
        "--adapter",
        str(folder),
    ]
