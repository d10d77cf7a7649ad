"""Pages are for everybody: axe-core finds nothing on any of them, in dark and in light, and none is too wide."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Browser
from filled_hub import FilledHub

_MODEL = "/ines/SmolLM2-135M-Instruct-GGUF"
_FOR_ALL = (
    "/", "/models?q=dunes&artefact=image-lora", "/models?q=nothingofthatname", "/datasets", "/login", _MODEL,
    f"{_MODEL}/tree/main", f"{_MODEL}/blob/main/SmolLM2-135M-Instruct.Q4_1.gguf", f"{_MODEL}/lineage",
    "/ines/kitchen-adapter", "/ines/mail-tone-adapter", "/ines/kitchen-adapter/lineage",
    "/ines/kitchen-adapter/commits", "/ines/kitchen-adapter/diff",
    "/ines/kitchen-adapter/blob/main/README.md", "/ines/kitchen-adapter/discussions", "/ines/Dunes-000",
    "/ines/Dunes-000/blob/main/pictures/01.png", "/yuki/Nocturne-003", "/ines",
    "/compare?a=ines/kitchen-adapter&b=ines/glossary-adapter", "/compare?a=ines/kitchen-adapter",
    "/datasets/ines/kitchen-notes", "/no/such/page",
)  # fmt: skip
_FOR_THE_ADMIN = (
    "/upload",
    "/tokens",
    "/moderation",
    "/ines/kitchen-adapter/settings",
    "/ines/kitchen-adapter/report",
)
_FOUND = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(each =>
    each.id + ": " + each.nodes.slice(0, 3).map(node => node.target + " " + node.failureSummary).join(" | ")))"""


@pytest.mark.parametrize("path", _FOR_ALL)
def test_axe_finds_nothing(page: Browser, pages_hub: FilledHub, axe: str, path: str) -> None:
    assert_fit(page, pages_hub.url + path, axe)


@pytest.mark.parametrize("path", _FOR_THE_ADMIN)
def test_axe_finds_nothing_for_the_admin(page: Browser, pages_hub: FilledHub, axe: str, path: str) -> None:
    log_in(page, pages_hub, pages_hub.admin)
    assert_fit(page, pages_hub.url + path, axe)


def test_what_is_opened_is_fit_too(page: Browser, pages_hub: FilledHub, axe: str) -> None:
    page.open(f"{pages_hub.url}/ines/Dunes-000")
    page.script("document.querySelector('a[data-large]').click()")
    page.wait_until("document.querySelector('dialog[open] img')?.complete")
    assert _found(page, axe) == []
    page.open(f"{pages_hub.url}/yuki/Nocturne-003")
    page.script("document.querySelector('.veil').open = true")
    assert _found(page, axe) == []


@pytest.mark.parametrize("path", [_MODEL, "/ines/kitchen-adapter"])
def test_sample_chats_are_fit_when_they_are_opened(
    page: Browser, pages_hub: FilledHub, axe: str, path: str
) -> None:
    page.open(pages_hub.url + path)
    for dark in (False, True):
        page.look(dark=dark)
        page.script("document.querySelectorAll('section details').forEach(each => { each.open = true; })")
        assert page.script("document.querySelectorAll('.sample details[open] .command').length") >= 2
        assert _found(page, axe) == []
    page.look(width=360, height=780)
    assert page.script("document.documentElement.scrollWidth") <= 360


def log_in(page: Browser, hub: FilledHub, token: str) -> None:
    """As a person would."""
    page.open(f"{hub.url}/login")
    page.script(
        f"document.getElementById('token').value = {token!r}; document.querySelector('main form').submit()"
    )
    page.wait_until("document.querySelector('details.menu summary')")


def assert_fit(page: Browser, url: str, axe: str) -> None:
    """No violation in light and in dark, and no wider than a phone."""
    page.open(url)
    assert _found(page, axe) == []
    page.look(dark=True)
    assert page.script("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 24)"
    assert _found(page, axe) == []
    page.look(width=360, height=780)
    assert page.script("document.documentElement.scrollWidth") <= 360


def _found(page: Browser, axe: str) -> Any:
    if not page.script("Boolean(window.axe)"):
        page.script(axe)
    return page.script(_FOUND)
