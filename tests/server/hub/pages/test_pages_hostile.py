"""Whatever people write into cards, names, files and pictures: nothing of it runs, nothing is fetched."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from browser import Browser
from drawing import picture
from filled_hub import FilledHub
from filling import commit_files
from sqlalchemy import insert

from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.safetensors_file import safetensors_bytes
from nomoat.share.names import RepoName
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.schema import discussions, samples

_HIT = "window.hit=1"
_TAG = f'"\'><img src=x onerror="{_HIT}"><script>{_HIT}</script>{{{{7*7}}}}'
_README = f"""---
license: '{_TAG.replace("'", "''")}'
base_model: '<svg onload={_HIT}>/x'
pipeline_tag: '<svg onload={_HIT}>'
library_name: '<svg onload={_HIT}>'
language: ['<svg onload={_HIT}>']
datasets: ['<svg onload={_HIT}>']
tags: ['<svg/onload={_HIT}>', 'javascript:{_HIT}']
trigger_words: ['<svg onload={_HIT}>']
permissions: {{allowNoCredit: '<svg onload={_HIT}>', allowCommercialUse: ['<svg onload={_HIT}>']}}
nomoat:
  dataset: {{digest: '<svg onload={_HIT}>'}}
  scores: {{before: {{loss: 2}}, after: {{loss: 1, documents: '<svg onload={_HIT}>'}}, verdict: '<svg onload={_HIT}>'}}
---
# <img src=x onerror={_HIT}>

A summary <svg onload={_HIT}> [link](javascript:{_HIT}) [other](data:text/html,<script>{_HIT}</script>)

<script>{_HIT}</script><iframe src="javascript:{_HIT}"></iframe><svg><script>{_HIT}</script></svg>
<a href="jAvAsCrIpT:{_HIT}" onclick="{_HIT}" style="position:fixed;inset:0" id="content" class="top">here</a>
<form action="https://elsewhere.example/"><input name=token><button>Log in</button></form>
<img src="https://elsewhere.example/spy.png" alt="spy"> ![spy](https://elsewhere.example/spy2.png)
<img src="//elsewhere.example/spy3.png">
<img src="pictures/01.png" onload="{_HIT}" srcset="https://elsewhere.example/4.png 2x">
<math><mtext><table><mglyph><style><img src=x onerror={_HIT}></style></mglyph></table></mtext></math>
<details open ontoggle={_HIT}>x</details><object data="javascript:{_HIT}"></object><base href="https://elsewhere.example/">
<meta http-equiv=refresh content="0;url=https://elsewhere.example/"><link rel=stylesheet href=https://elsewhere.example/>
"""
_HARMFUL = (
    "main [onerror], main [onload], main [onclick], main [style], main iframe, main object, main base, main meta",
    "main a[href^='javascript' i], main a[href^='data' i], main form[action^='http'], script:not([src])",
    "main .prose input, main .prose [id], main .prose [class]:not(.scroll)", "img[src='x']",
)  # fmt: skip
_ODD_NAME = "<img src=x onerror=window.hit=1> & 'quoted'.txt"


@pytest.fixture(scope="module")
def hostile(pages_hub: FilledHub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository in which every field is an attack; returns its path."""
    hub, folder = pages_hub.hub, tmp_path_factory.mktemp("hostile")
    who = hub.registry.accounts.identity("marek", "write")
    name = RepoName.parse("model", "marek/hostile")
    metadata = {
        "general.architecture": "llama",
        "general.name": _TAG,
        "tokenizer.chat_template": _TAG,
        _TAG: _TAG,
    }
    write_gguf(folder / "m.gguf", metadata, {f"w{_TAG[:50]}": np.zeros((32, 4), np.float32)})
    tensors = {f"t{_TAG}": np.zeros((2, 2), np.float32)}
    files = {
        "README.md": _README.encode(), "m.gguf": (folder / "m.gguf").read_bytes(), _ODD_NAME: _TAG.encode(),
        "w.safetensors": safetensors_bytes(tensors, {f"k{_TAG}": _TAG}), "pictures/01.png": picture(7, _TAG),
        "page.html": f"<script>{_HIT}</script>".encode(), "drawing.svg": f"<svg onload='{_HIT}'/>".encode(),
    }  # fmt: skip
    commit_files(hub, who, name, files, _TAG)
    changed = {_ODD_NAME: b"other\n", "w.safetensors": safetensors_bytes(tensors, {"k": "v"})}
    repo = commit_files(hub, who, name, changed, _TAG)
    hub.registry.accounts.change("marek", about=_TAG, full_name=_TAG)
    content = {"prompt": _TAG, "answer": _TAG, "seed": _TAG, _TAG: _TAG}
    with hub.registry.database.write() as connection:
        row = {"repo_id": repo.id, "commit": repo.head, "content": content, "created_ms": now_ms()}
        connection.execute(insert(samples).values(row))
        comments = [{"author": _TAG, "text": _README, "created_ms": 1}]
        connection.execute(insert(discussions).values(repo_id=repo.id, number=1, title=_TAG, author="marek",
                                                      created_ms=1, comments=comments))  # fmt: skip
    return "/marek/hostile"


@pytest.mark.parametrize(
    "below",
    ["", "/tree/main", "/blob/main/m.gguf", "/blob/main/w.safetensors", "/blob/main/pictures/01.png",
     f"/blob/main/{quote(_ODD_NAME)}", "/blob/main/page.html", "/blob/main/drawing.svg", "/blob/main/README.md",
     "/commits", "/diff", "/lineage", "/discussions", "/discussions/1"],
)  # fmt: skip
def test_nothing_that_was_written_runs(page: Browser, pages_hub: FilledHub, hostile: str, below: str) -> None:
    page.open(pages_hub.url + hostile + below)
    _assert_harmless(page, pages_hub)
    assert "marek" in page.script("document.querySelector('h1').innerText")


@pytest.mark.parametrize(
    "path",
    ["/?q=" + quote(_TAG), "/models?tag=" + quote(_TAG), "/models?licence=" + quote(_TAG) + "&cursor=" + quote(_TAG),
     "/marek", "/compare?a=marek/hostile&b=marek/hostile", "/compare?a=" + quote(_TAG), "/" + quote(_TAG),
     "/login?next=" + quote(_TAG), "/models?owner=marek"],
)  # fmt: skip
def test_nothing_in_an_address_runs(page: Browser, pages_hub: FilledHub, hostile: str, path: str) -> None:
    page.open(pages_hub.url + path)
    _assert_harmless(page, pages_hub)


def test_a_recipe_in_the_lightbox_does_not_run(page: Browser, pages_hub: FilledHub, hostile: str) -> None:
    page.open(pages_hub.url + hostile)
    page.script("document.querySelector('a[data-large]').click()")
    page.wait_until("document.querySelector('dialog[open] img').complete")
    assert "onerror" in page.script("document.querySelector('dialog').innerText")
    _assert_harmless(page, pages_hub)


@pytest.mark.parametrize("name", ["page.html", "drawing.svg"])
def test_a_file_is_saved_and_never_shown_as_a_page(pages_hub: FilledHub, hostile: str, name: str) -> None:
    answer = httpx.get(f"{pages_hub.url}{hostile}/resolve/main/{name}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "html" not in answer.headers["content-type"] and "svg" not in answer.headers["content-type"]


def _assert_harmless(page: Browser, hub: FilledHub) -> None:
    page.script("new Promise(done => setTimeout(done, 30))")
    assert page.script("typeof window.hit") == "undefined"
    for selector in _HARMFUL:
        assert page.script(f"document.querySelectorAll({selector!r}).length") == 0, selector
    own = {urlsplit(hub.url).netloc, urlsplit(hub.files_url).netloc}
    asked = [
        e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"
    ]
    assert {urlsplit(url).netloc for url in asked} <= own
    assert not any(e.get("method") == "Page.javascriptDialogOpening" for e in page.events)
