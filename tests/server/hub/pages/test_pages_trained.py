"""What the pages say of adapters that were really trained: who vouches for them, from what, and what it changed."""

from __future__ import annotations

import re

import httpx
import pytest
from filled_hub import FilledHub


@pytest.fixture(scope="module")
def anonymous(pages_hub: FilledHub) -> httpx.Client:
    """Somebody unknown."""
    return httpx.Client(base_url=pages_hub.url, headers={"Accept": "text/html"})


def test_the_family_tree_leads_to_its_members(anonymous: httpx.Client) -> None:
    html = anonymous.get("/ines/kitchen-adapter/lineage").text
    drawing = html.split('<div class="graph"')[1].split("</svg>")[0]
    members = re.findall(r'<a href="([^"]+)">', drawing)
    assert sorted(members) == ["/datasets/ines/kitchen-notes", "/ines/SmolLM2-135M-Instruct-GGUF"]
    assert all(anonymous.get(path).status_code == 200 for path in members)
    assert drawing.count('class="edge edge-verified"') == 2, "its base and its text, each by digest"
    assert 'class="edge edge-declared"' in drawing
    assert "told by provenance.json" in html


def test_what_training_changed_can_be_compared(anonymous: httpx.Client) -> None:
    names = {"a": "ines/kitchen-adapter", "b": "ines/glossary-adapter"}
    html = anonymous.get("/compare", params=names).text
    assert len(set(re.findall(r"([0-9.]+ bits per byte before, [0-9.]+ after)", html))) == 2
    assert "230K (230,400)" in html and html.count("<td>llama</td>") == 2


def test_a_signed_version_says_so(anonymous: httpx.Client) -> None:
    assert re.search(
        r'class="badge good" title="Key [0-9a-f]{64}"', anonymous.get("/ines/kitchen-adapter").text
    )
    assert "badge good" not in anonymous.get("/ines/mail-tone-adapter").text.split("<aside")[0]
