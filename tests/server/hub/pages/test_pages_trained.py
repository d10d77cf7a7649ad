"""What the pages say of adapters that were really trained: who vouches for them, from what, and what it changed."""

from __future__ import annotations

import html as html_text
import re
from pathlib import Path

import httpx
import pytest
from filled_hub import FilledHub
from filling import commit_files

from nomoat.base.manifests import read_manifest
from nomoat.share.cards.computed import compute_card
from nomoat.share.cards.front_matter import with_front_matter
from nomoat.share.client.artefacts import ADAPTER_FILES
from nomoat.share.names import RepoName
from nomoat.share.trust.keys import new_key
from nomoat.share.trust.provenance import PROVENANCE_NAME, sign_provenance
from nomoat.store.embedded import EMBEDDED_DIGEST

_BASE = "ines/SmolLM2-135M-Instruct-GGUF"
_EXACT = {"before": 0.1, "after": 0.4}
_FIGURE = r"([0-9.]+) \([0-9.]+ to [0-9.]+\)"


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
    row = html.split('<th scope="row">bits per byte, held-out text</th>')[1].split("</tr>")[0]
    told = re.findall(rf"<td>{_FIGURE} → {_FIGURE} \((\w+)\)", row)
    assert [each[-1] for each in told] == ["verified", "declared"]
    assert told[0][:-1] != told[1][:-1]
    assert "230K (230,400)" in html and html.count("<td>llama</td>") == 2
    models = {"a": _BASE, "b": _BASE}
    assert "Measured before and after" not in anonymous.get("/compare", params=models).text


def test_what_was_measured_stands_with_its_proof(
    anonymous: httpx.Client, trained_adapters: dict[str, Path]
) -> None:
    measured = read_manifest(trained_adapters["kitchen-adapter"], "adapter").details
    rows = _measured(anonymous.get("/ines/kitchen-adapter").text)
    assert [(row[0], row[3]) for row in rows] == [
        (f"{what} held-out text, 2 documents", "verified")
        for what in ("bits per byte", "loss (nats per token)", "verdict")
    ]
    for (_, before, after, *_), name in zip(rows, ("bits_per_byte", "loss"), strict=False):
        assert before.startswith(f"{measured['before'][name]:.3g} (")
        assert after.startswith(f"{measured['after'][name]:.3g} (")
    assert rows[2][2] == measured["verdict"]
    html = anonymous.get("/ines/mail-tone-adapter").text
    assert {row[-1] for row in _measured(html)} == {"declared"}, "nobody signed how it was trained"
    assert "own claim, in the card" in html and "its owner signed this" not in html
    assert "Measured" not in anonymous.get(f"/{_BASE}").text


def test_a_card_that_says_other_than_its_provenance_is_caught(
    anonymous: httpx.Client, pages_hub: FilledHub, trained_adapters: dict[str, Path]
) -> None:
    hub, key = pages_hub.hub, new_key()
    hub.registry.accounts.add("tom")
    hub.registry.accounts.change("tom", public_key=key.public.pem)
    who = hub.registry.accounts.identity("tom", "write")
    folder, name = trained_adapters["glossary-adapter"], RepoName.parse("model", "tom/boast")
    files = {path: (folder / path).read_bytes() for path in ADAPTER_FILES if (folder / path).is_file()}
    card = compute_card(folder, data_licence="own")
    scores = card.fields["nomoat"]["scores"]
    exact = {when: {"estimate": share, "low": 0, "high": 1, "n": 7} for when, share in _EXACT.items()}
    boast = {
        **card.fields["nomoat"],
        "scores": {**scores, "after": {**scores["after"], "loss": 0.01}, "exact": exact},
        "forgetting": {when: {"estimate": 1.25, "n": 40} for when in ("before", "after")},
        "audit": {"tested": 12, "memorised": 1},
    }
    files["README.md"] = with_front_matter({**card.fields, "nomoat": boast}, "# Boast\n").encode()
    files[PROVENANCE_NAME] = sign_provenance(folder, key)
    commit_files(hub, who, name, files)
    html = anonymous.get("/tom/boast").text
    rows = {row[0]: row for row in _measured(html)}
    assert [row[-1] for row in rows.values()] == ["verified", "differs", "verified", *["declared"] * 3]
    assert rows["loss (nats per token) held-out text, 2 documents"][2].startswith("0.01 (")
    assert "0.4 (0 to 1)" in rows["share of right answers held-out text, 7 questions"]
    assert "1.25" in rows["bits per byte general text, 40 documents"]
    assert "1 text" in rows["continued word for word training text, 12 texts"]
    assert "what its owner signed with the training run is something else" in html


@pytest.mark.parametrize(
    "own",
    ["7", "[1]", "{scores: [1]}", "{scores: {before: {loss: x}, after: {loss: []}}}",
     "{scores: {before: {loss: true}, after: {loss: .nan}}}", "{scores: {verdict: [1], exact: {after: {estimate: 1}}}}",
     "{scores: {before: {loss: 1e300}, after: {loss: 1e300}}, audit: {tested: -1, memorised: 0}}",
     "{forgetting: not measured, audit: {tested: 0, memorised: 0}, dataset: {digest: x}}"],
)  # fmt: skip
def test_what_is_no_measurement_is_not_shown(anonymous: httpx.Client, pages_hub: FilledHub, own: str) -> None:
    who = pages_hub.hub.registry.accounts.identity("marek", "write")
    card = f"---\nnomoat: {own}\n---\n# Odd\n"
    commit_files(pages_hub.hub, who, RepoName.parse("model", "marek/odd"), {"README.md": card.encode()})
    answer = anonymous.get("/marek/odd")
    assert answer.status_code == 200 and "Measured" not in answer.text


def test_a_base_on_this_hub_is_linked_and_names_its_adapters(anonymous: httpx.Client) -> None:
    for name, state in (("kitchen-adapter", "verified"), ("mail-tone-adapter", "declared")):
        for path in ("", "/lineage"):
            line = _lines(anonymous.get(f"/ines/{name}{path}").text)[0]
            assert f'>{state}</span> adapter of <a href="/{_BASE}">' in line and EMBEDDED_DIGEST in line
            assert "declared as HuggingFaceTB/SmolLM2-135M-Instruct" in line
    html = anonymous.get(f"/{_BASE}").text
    users = re.search(r'<h3 id="users">Who uses it as a base</h3>\s*<ul.*?</ul>', html, re.DOTALL)
    assert users
    told = re.findall(r'>(\w+)</span> <a href="([^"]+)">', users[0])
    assert {("verified", "/ines/kitchen-adapter"), ("declared", "/ines/mail-tone-adapter")} <= set(told)
    assert "href=" not in _lines(html)[0], "the model that it was quantised from is not here"


def test_a_repository_that_has_no_more_than_the_name_is_told_from_the_base(
    anonymous: httpx.Client, pages_hub: FilledHub
) -> None:
    hub = pages_hub.hub
    who = hub.registry.accounts.identity("yuki", "write")
    commit_files(hub, who, RepoName.parse("model", "yuki/namesake"), {"README.md": b"# Another model\n"})
    card = f"---\nbase_model: yuki/namesake\nlibrary_name: peft\nnomoat: {{base_digest: sha256:{'7' * 64}}}\n---\n"
    commit_files(hub, who, RepoName.parse("model", "yuki/of-another"), {"README.md": card.encode()})
    line = _lines(anonymous.get("/yuki/of-another").text)[0]
    assert "adapter of <strong>yuki/namesake</strong>" in line
    assert 'that very file is in no repository here; of its name there is <a href="/yuki/namesake">' in line
    assert '>declared</span> <a href="/yuki/of-another">' in anonymous.get("/yuki/namesake").text


def test_a_signed_version_says_so(anonymous: httpx.Client) -> None:
    assert re.search(
        r'class="badge good" title="Key [0-9a-f]{64}"', anonymous.get("/ines/kitchen-adapter").text
    )
    assert "badge good" not in anonymous.get("/ines/mail-tone-adapter").text.split("<aside")[0]


def _measured(page: str) -> list[tuple[str, ...]]:
    """The cells of the rows in the box "Measured"."""
    table = page.split('aria-label="Measured values"')[1].split("</table>")[0].split("<tbody>")[1]
    rows = [
        re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    return [tuple(html_text.unescape(re.sub("<.*?>", "", cell)) for cell in row) for row in rows]


def _lines(page: str) -> list[str]:
    """What a page says that something was made from: each line as HTML, names without their parts."""
    heading = "<h2>Family</h2>" if "<h2>Family</h2>" in page else '<h2 id="parents">'
    lines = re.findall(r"<p>(.*?)</p>", page.split(heading)[1].split("</section>")[0], re.DOTALL)
    return [re.sub(r'<span class="name[^>]*>([^<]*)</span>|<wbr>', r"\1", line) for line in lines]
