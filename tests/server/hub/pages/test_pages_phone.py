"""On a phone the tables that people act on show all their columns, and nothing of them touches."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser
from diffusion_pipeline import write_pipeline
from filled_hub import FilledHub
from filling import commit_files
from test_pages_axe import assert_fit, log_in

from nomoat.share.names import RepoName

_PHONE = {"width": 390, "height": 844}
_COMPARED = "/compare?a=ines/SmolLM2-135M-Instruct-GGUF&b=ines/kitchen-adapter"
_OUTSIDE = """[...document.querySelectorAll('.table-panel')].filter(each =>
    each.scrollWidth > each.clientWidth).length"""
_CRAMPED = """[...document.querySelectorAll('.compare th[scope="row"]')].filter(each => {
    const words = document.createRange(); words.selectNodeContents(each);
    return each.nextElementSibling.getBoundingClientRect().left - words.getBoundingClientRect().right < 4;
}).map(each => each.innerText)"""
_UNREACHABLE = """[...document.querySelectorAll('{}')].filter(each => {{
    const box = each.getBoundingClientRect();
    return box.width < 12 || box.left < 0 || box.right > innerWidth;
}}).length"""


@pytest.mark.parametrize("path", [_COMPARED, "/compare?a=ines/Dunes-000&b=marek/Harbour-001"])
def test_two_models_are_side_by_side(page: Browser, pages_hub: FilledHub, path: str) -> None:
    page.look(**_PHONE)
    page.open(pages_hub.url + path)
    assert page.script("document.querySelectorAll('.compare tr.differs').length") >= 2
    assert page.script(_OUTSIDE) == 0 and page.script(_CRAMPED) == []


@pytest.mark.parametrize("name", ["ines/SmolLM2-135M-Instruct-GGUF", "ines/kitchen-adapter"])
def test_files_can_be_downloaded(page: Browser, pages_hub: FilledHub, name: str) -> None:
    page.look(**_PHONE)
    page.open(f"{pages_hub.url}/{name}/tree/main")
    assert page.script("document.querySelectorAll('.files a[download]').length") >= 2
    assert page.script(_OUTSIDE) == 0 and page.script(_UNREACHABLE.format(".files a[download] svg")) == 0


def test_tokens_can_be_ended(page: Browser, pages_hub: FilledHub) -> None:
    log_in(page, pages_hub, pages_hub.admin)
    page.look(**_PHONE)
    page.open(f"{pages_hub.url}/tokens")
    assert page.script("document.querySelectorAll('.tokens button.danger').length") >= 2
    assert page.script(_OUTSIDE) == 0 and page.script(_UNREACHABLE.format(".tokens button.danger")) == 0


def test_the_page_of_a_pipeline_is_for_everybody(
    page: Browser, pages_hub: FilledHub, axe: str, tmp_path: Path
) -> None:
    folder, name = write_pipeline(tmp_path / "pipeline"), RepoName.parse("model", "ines/harbour-light")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    commit_files(pages_hub.hub, pages_hub.hub.registry.accounts.identity("ines", "write"), name, files)
    assert_fit(page, f"{pages_hub.url}/{name}", axe)
    assert page.script("document.querySelectorAll('.pictures img').length") == 1
