"""Names on hubs: how they are read, what is none, and where they lead."""

from __future__ import annotations

import pytest

from nomoat.base.errors import InputError
from nomoat.share.client.references import is_local_host, is_reference, parse_hub, parse_reference


@pytest.fixture(autouse=True)
def _public_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


@pytest.mark.parametrize(
    ("text", "host", "endpoint", "repo", "selector", "revision"),
    [
        ("hf.co/owner/name", "hf.co", "https://huggingface.co", "owner/name", "", ""),
        ("huggingface.co/owner/name:Q4_K_M", "hf.co", "https://huggingface.co", "owner/name", "Q4_K_M", ""),
        ("hf.co/o/n:sub/model.Q8_0.gguf@refs/pr/1", "hf.co", "https://huggingface.co", "o/n",
         "sub/model.Q8_0.gguf", "refs/pr/1"),
        ("hub.local/me/notes-adapter", "hub.local", "http://hub.local", "me/notes-adapter", "", ""),
        ("127.0.0.1:8123/me/x:Q4_K_M", "127.0.0.1:8123", "http://127.0.0.1:8123", "me/x", "Q4_K_M", ""),
        ("[::1]:80/me/x", "[::1]:80", "http://[::1]:80", "me/x", "", ""),
        ("192.168.1.7:9000/me/x@v1", "192.168.1.7:9000", "http://192.168.1.7:9000", "me/x", "", "v1"),
        ("localhost/me/x", "localhost", "http://localhost", "me/x", "", ""),
        ("nas:8080/me/x", "nas:8080", "http://nas:8080", "me/x", "", ""),
        ("models.example.org/me/x", "models.example.org", "https://models.example.org", "me/x", "", ""),
        ("hf.co/o/n@main", "hf.co", "https://huggingface.co", "o/n", "", ""),
        ("https://huggingface.co/o/n", "hf.co", "https://huggingface.co", "o/n", "", ""),
        ("https://huggingface.co/o/n/tree/v2", "hf.co", "https://huggingface.co", "o/n", "", "v2"),
        ("https://huggingface.co/o/n/blob/main/a/b.gguf?download=true", "hf.co", "https://huggingface.co", "o/n",
         "a/b.gguf", ""),
        ("http://127.0.0.1:8123/me/x/resolve/v1/m.gguf", "127.0.0.1:8123", "http://127.0.0.1:8123", "me/x",
         "m.gguf", "v1"),
    ],
)  # fmt: skip
def test_a_name_says_where_what_and_which(
    text: str, host: str, endpoint: str, repo: str, selector: str, revision: str
) -> None:
    assert is_reference(text)
    found = parse_reference(text)
    assert (found.hub.host, found.hub.endpoint, str(found.repo)) == (host, endpoint, repo)
    assert (found.selector, found.revision) == (selector, revision)


def test_a_dataset_says_so() -> None:
    assert parse_reference("hf.co/datasets/o/n").repo.kind == "dataset"
    assert parse_reference("https://hub.example.org/datasets/o/n/tree/main").repo.kind == "dataset"
    assert str(parse_reference("hf.co/datasets/o/n")) == "hf.co/datasets/o/n"


def test_the_environment_may_name_another_public_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    assert parse_reference("hf.co/o/n").hub.endpoint == "http://127.0.0.1:9"
    assert parse_reference("hub.local/o/n").hub.endpoint == "http://hub.local"


@pytest.mark.parametrize(
    "text",
    ["smollm2", "qwen:0.5b", "./out/a/b", "/models/a/b.gguf", "folder/a/b", "a.gguf", "hf.co", "hf.co/o"],
)
def test_names_of_the_store_and_paths_are_left_alone(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    "text",
    ["hf.co/o/../x", "hf.co/o/n/more/parts", "hf.co/o/n:a/../b.gguf", "hf.co/o/n@a..b", "https://me:pw@hf.co/o/n",
     "http:///o/n", "hf.co/-o/n"],
)  # fmt: skip
def test_a_name_that_leads_astray_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_reference(text)


def test_names_are_the_same_however_they_are_written() -> None:
    assert (
        parse_reference("HF.co/Owner/Name:q4_k_m").key
        == parse_reference("huggingface.co/owner/name:Q4_K_M").key
    )
    assert parse_reference("hf.co/o/n@A").key != parse_reference("hf.co/o/n@a").key


@pytest.mark.parametrize(("name", "local"), [
    ("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("fe80::1", True), ("nas", True), ("nas.local", True),
    ("8.8.8.8", False), ("example.org", False), ("local.example.org", False), ("notlocal", True),
])  # fmt: skip
def test_only_this_network_is_local(name: str, local: bool) -> None:
    assert is_local_host(name) is local


def test_a_token_is_not_for_open_roads() -> None:
    assert parse_hub("hub.example.org").may_carry_secrets
    assert parse_hub("127.0.0.1:80").may_carry_secrets
    assert not parse_hub("http://hub.example.org").may_carry_secrets
