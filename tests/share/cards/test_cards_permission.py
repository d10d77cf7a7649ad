"""What speaks against sharing: each reason is found, named, and can be overridden by its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapter_folder import write_adapter

from nomoat.share.cards.computed import compute_card
from nomoat.share.cards.permission import CODES, Objection, objections, require_permission
from nomoat.share.cards.secrets import find_secrets
from nomoat.share.errors import RefusedError
from nomoat.store.adapters import AUDIT_NAME

_SENT = ("adapter.gguf", "adapter_model.safetensors", "adapter_config.json", "manifest.json")


def _found(folder: Path, files: tuple[str, ...] = _SENT, prose: str = "", **card: str) -> list[Objection]:
    return objections(folder, compute_card(folder, **{"data_licence": "own", **card}), files, prose)


def _codes(found: list[Objection]) -> list[str]:
    assert {each.code for each in found} <= set(CODES)
    return [each.code for each in found]


def test_own_text_on_a_free_base_may_go(tmp_path: Path) -> None:
    found = _found(write_adapter(tmp_path / "a"))
    assert found == []
    require_permission(found)


@pytest.mark.parametrize(
    ("options", "card", "codes"),
    [
        ({"licence": ""}, {}, ["base-licence"]),
        ({"licence": "Research-Only-1"}, {}, ["base-licence"]),
        ({"licence": "CC-BY-ND-4.0"}, {}, ["base-licence"]),
        ({"licence": "CC-BY-NC-4.0"}, {"licence": "mit"}, ["licence-conflict"]),
        ({"licence": "CC-BY-NC-4.0"}, {}, []),
        ({"licence": "llama3.2"}, {"licence": "apache-2.0"}, ["licence-conflict"]),
        ({"licence": "llama3.2"}, {}, []),
        ({}, {"data_licence": ""}, ["data-licence"]),
        ({}, {"data_licence": "private"}, ["data-licence"]),
        ({}, {"data_licence": "CC-BY-ND-4.0"}, ["data-licence"]),
        ({}, {"data_licence": "CC-BY-NC-4.0"}, ["licence-conflict"]),
        ({}, {"data_licence": "CC-BY-SA-4.0"}, ["licence-conflict"]),
        ({}, {"data_licence": "CC-BY-4.0"}, []),
        ({"data_licence": "CC0-1.0"}, {"data_licence": ""}, []),
    ],
)  # fmt: skip
def test_licences_are_weighed(
    tmp_path: Path, options: dict[str, Any], card: dict[str, str], codes: list[str]
) -> None:
    assert _codes(_found(write_adapter(tmp_path / "a", **options), **card)) == codes


def test_files_that_quote_the_training_text_do_not_go_along_by_the_way(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    assert _codes(_found(folder, (*_SENT, "dataset/train.jsonl", "report.json"))) == ["own-text"]
    assert _codes(objections(folder, compute_card(folder, data_licence="own"))) == ["own-text"]


def test_an_adapter_that_repeats_its_text_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / AUDIT_NAME).write_text('{"tested": 10, "memorised": 2}')
    (found,) = _found(folder)
    assert found.code == "memorised" and "2 of 10" in found.reason
    (folder / AUDIT_NAME).write_text('{"tested": 10, "memorised": 0}')
    assert _found(folder) == []


def test_secrets_in_what_it_learned_says_or_sends_are_found(tmp_path: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    learned = write_adapter(tmp_path / "a", rows=["Tea.", f"My token is {token}."])
    (found,) = _found(learned)
    assert found.code == "secret" and "training text" in found.reason and "line 2" in found.reason
    assert token not in found.reason
    answer = {"samples": [{"question": "?", "before": "", "after": "Write to marta@tea.shop.de"}]}
    (found,) = _found(write_adapter(tmp_path / "b", report=answer))
    assert found.code == "personal-data" and "an answer of the adapter" in found.reason
    (found,) = _found(write_adapter(tmp_path / "c"), prose="Call +49 30 1234567")
    assert found.code == "personal-data" and "the card line 1" in found.reason


def test_a_refusal_names_every_reason_and_its_override(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", licence="")
    found = _found(folder, data_licence="")
    with pytest.raises(RefusedError) as refused:
        require_permission(found, {"base-licence"})
    assert "data-licence" in refused.value.message and "base-licence" not in refused.value.message
    assert "--allow data-licence" in refused.value.hint
    require_permission(found, {"base-licence", "data-licence"})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"), ("-----BEGIN PRIVATE KEY-----", "a private key"),
        ("hf_" + "aB3" * 12, "a token of Hugging Face"), ("key AKIA" + "Q7" * 8, "an access key of AWS"),
        ('"password": "s3cret-tea-pot"', "a password"), ("marta.k+x@tea.co.uk,", "an e-mail address"),
        ("ring 030 / 1234567!", "a telephone number"), ("+1 (555) 010-4477", "a telephone number"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "a bank account"), ("4111 1111 1111 1111", "a payment card"),
    ],
)  # fmt: skip
def test_secrets_are_recognised(text: str, what: str) -> None:
    assert what in [each.what for each in find_secrets([text])]


@pytest.mark.parametrize(
    "text",
    ["me@example.com", "sha256:0123456789012345678901234567890123456789", "0.053412989366495536", "2024-05-01 10:20:30",
     "pip install nomoat==0.1.0", "password: ask me", "DE12 3456 7890 1234 5678 90", "4111 1111 1111 1112",
     "learning_rate = 0.0012345678", '"train_tokens": 4884480123, "steps": 417', "v1.2.3.4567890123", "1600x1200",
     "see https://host/01234567890/x"],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert list(find_secrets([text])) == []


def test_a_secret_at_the_end_of_a_long_line_is_found() -> None:
    for before in (99_990, 150_000, 500_000):
        (found,) = find_secrets(["x " * (before // 2) + "marta@tea.shop.de"])
        assert found.line == 1


def test_hostile_lines_are_read_in_time() -> None:
    for text in ("0 " * 50_000, "a@" * 50_000, "(0" * 50_000, "DE12" + " A1B2" * 20_000, "1111 " * 20_000):
        list(find_secrets([text]))
