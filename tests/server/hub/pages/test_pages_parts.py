"""The parts that pages are made of, each by itself."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from filled_hub import FilledHub
from filling import commit_files

from nomoat.formats.gguf_write import write_gguf
from nomoat.server.hub.pages import words
from nomoat.server.hub.pages.cards import card_html
from nomoat.server.hub.pages.differences import changes_between, text_difference
from nomoat.server.hub.pages.facts import permissions_of
from nomoat.server.hub.pages.fingerprints import fingerprint
from nomoat.server.hub.pages.tensors import read_weights
from nomoat.share.errors import RefusedError
from nomoat.share.names import RepoName
from nomoat.share.registry.trees import Entry


@pytest.mark.parametrize(
    ("given", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (98_000_000, "93 MB"), (5 << 30, "5.0 GB"), (None, "")],
)
def test_sizes_in_words(given: int | None, shown: str) -> None:
    assert words.size(given) == shown


def test_numbers_in_words() -> None:
    assert [words.count(n) for n in (999, 1234, 45_678, 1_500_000)] == ["999", "1.2k", "46k", "1.5M"]
    assert words.parameters(134_515_008) == "135M"
    assert [words.plural(1, "file"), words.plural(2, "file")] == ["1 file", "2 files"]
    assert (
        words.ago(0) == "never"
        and words.day(0) == "never"
        and words.day(1_700_000_000_000).endswith("22:13 UTC")
    )


def test_a_card_keeps_what_is_harmless() -> None:
    html = card_html(
        "---\nlicense: mit\n---\n# Title\n\n**bold** ~~old~~ `code`\n\n|a|b|\n|-|-|\n|1|2|\n\n![x](pics/1.png)"
        " [n](docs/n.md)"
        "\n\n[out](https://example.org) <details><summary>s</summary>t</details> [up](../../etc/passwd)",
        {"pics/1.png": "/userfiles/1"}, lambda path: f"/file/{path}",
    )  # fmt: skip
    assert (
        "<h2>Title</h2>" in html and "<s>old</s>" in html and "<td>1</td>" in html and "license" not in html
    )
    assert 'src="/userfiles/1"' in html and 'loading="lazy"' in html
    assert 'href="/file/docs/n.md"' in html and "<summary>s</summary>" in html
    assert 'href="https://example.org"' in html and "nofollow" in html


def test_tables_are_told_apart_and_have_no_empty_heads() -> None:
    rows = "|  |  |\n|---|---|\n| r | 4 |\n\n|  | before | after |\n|---|---|---|\n| loss | 2 | 1 |\n"
    html = card_html(rows, {}, str)
    assert html.count("<thead>") == 1 and "<td></td>\n<th>before</th>" in html
    assert 'aria-label="Table 1"' in html and 'aria-label="Table 2"' in html and "<td>4</td>" in html


def test_a_picture_from_elsewhere_leaves_its_description() -> None:
    html = card_html("![a cat](https://example.org/cat.png)", {}, str)
    assert "example.org" not in html and "[picture: a cat]" in html


@pytest.mark.parametrize(
    ("given", "said"),
    [({"allowNoCredit": True}, (True, "Use it without naming the maker")),
     ({"allowNoCredit": "false"}, (False, "Name the maker when you use it")),
     ({"allowCommercialUse": "None"}, (False, "No commercial use")),
     ({"allowCommercialUse": ["Rent"]}, (True, "Earn money with it: offer it as a service")),
     ({"allowCommercialUse": "{Image}"}, (True, "Earn money with it: sell pictures made with it")),
     ({"allowDerivatives": False}, (False, "Do not share changed versions or merges"))],
)  # fmt: skip
def test_permissions_in_words(given: dict[str, object], said: tuple[bool, str]) -> None:
    (found,) = permissions_of({"permissions": given})
    assert (found.allowed, found.words) == said


@pytest.mark.parametrize("card", [{}, {"permissions": "all"}, {"permissions": [1]}, {"permissions": {}}])
def test_no_permissions_are_made_up(card: dict[str, object]) -> None:
    assert permissions_of(card) == []


def test_a_pattern_is_of_its_digest() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")


def test_a_difference_of_texts_has_its_surroundings() -> None:
    lines = text_difference(
        "".join(f"{n}\n" for n in range(20)), "".join(f"{n}\n" for n in range(20) if n != 9)
    )
    assert [line.text for line in lines if line.kind == "removed"] == ["-9"]
    assert [line.kind for line in lines].count("same") == 6
    assert text_difference("a", "a") == []


def test_a_changed_model_tells_which_tensor_and_which_key(pages_hub: FilledHub, tmp_path: Path) -> None:
    name, who = (
        RepoName.parse("model", "ines/compared"),
        pages_hub.hub.registry.accounts.identity("ines", "write"),
    )
    trees = []
    for version, shape in (("one", (32, 4)), ("two", (32, 8))):
        metadata = {
            "general.architecture": "llama",
            "general.name": version,
            "tokenizer.chat_template": f"{{{{ {version} }}}}",
        }
        write_gguf(
            tmp_path / "m.gguf",
            metadata,
            {"same": np.zeros((32,), np.float32), "grown": np.zeros(shape, np.float32)},
        )
        repo = commit_files(pages_hub.hub, who, name, {"m.gguf": (tmp_path / "m.gguf").read_bytes()})
        trees.append(pages_hub.hub.registry.history.files(pages_hub.hub.commit(repo)))
    (change,) = changes_between(pages_hub.hub, *trees)
    assert [row[0] for row in change.rows] == ["metadata general.name", "tensor grown"]
    assert [line.text for line in change.lines if line.kind in {"added", "removed"}] == [
        "-{{ one }}",
        "+{{ two }}",
    ]


@pytest.mark.parametrize(
    ("path", "content"),
    [("a.safetensors", b""), ("a.safetensors", struct.pack("<Q", 1 << 40) + b"{}"),
     ("a.safetensors", struct.pack("<Q", 6) + b'["no"]'), ("a.safetensors", struct.pack("<Q", 2) + b"[]"),
     ("a.safetensors", struct.pack("<Q", 9) + b'{"t": {}}'), ("a.gguf", b""),
     ("a.gguf", b"GGUF\x03\0\0\0" + b"\xff" * 40)],
)  # fmt: skip
def test_a_damaged_header_is_told(pages_hub: FilledHub, path: str, content: bytes) -> None:
    info = pages_hub.hub.registry.blobs.add(content)
    with pytest.raises(RefusedError):
        read_weights(pages_hub.hub, Entry(path, "blob", "", info.size_bytes, info.digest))


def test_a_header_is_read_however_long_it_is(pages_hub: FilledHub, tmp_path: Path) -> None:
    texts = [f"token number {n} of many" for n in range(120_000)]  # some 4 MB, more than the first read
    metadata = {"general.architecture": "x", "tokenizer.ggml.tokens": texts}
    write_gguf(tmp_path / "m.gguf", metadata, {"t": np.zeros((4096, 512), np.float32)})
    content = (tmp_path / "m.gguf").read_bytes()
    info = pages_hub.hub.registry.blobs.add(content)
    found = read_weights(pages_hub.hub, Entry("m.gguf", "blob", "", info.size_bytes, info.digest))
    assert [tensor.name for tensor in found.tensors] == ["t"]
    assert found.metadata["tokenizer.ggml.tokens"].startswith("120,000 values: token number 0 of many")
