"""What a page does in a browser: without JavaScript, by keyboard, without a request to anywhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from browser import Browser
from filled_hub import FilledHub

_READ = ("/", "/ines/SmolLM2-135M-Instruct-GGUF", "/ines/Dunes-000", "/ines/Dunes-000/blob/main/pictures/01.png",
         "/ines/SmolLM2-135M-Instruct-GGUF/lineage", "/ines/kitchen-adapter/diff",
         "/compare?a=ines/Dunes-000&b=marek/Harbour-001")  # fmt: skip
_TAB, _ESCAPE, _RIGHT, _SLASH = 9, 27, 39, 191


@pytest.mark.parametrize("path", _READ)
def test_no_request_leaves_the_hub(page: Browser, pages_hub: FilledHub, path: str) -> None:
    page.open(pages_hub.url + path)
    page.script("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
    page.wait_until("[...document.images].every(each => each.complete)")
    asked = [
        e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"
    ]
    own = {urlsplit(pages_hub.url).netloc, urlsplit(pages_hub.files_url).netloc}
    assert asked and {urlsplit(url).netloc for url in asked} <= own
    failed = [e["params"] for e in page.events if e.get("method") in {"Network.loadingFailed", "Log.entryAdded",
                                                                     "Runtime.exceptionThrown"}]  # fmt: skip
    assert failed == []
    assert all(page.script("[...document.images].filter(each => each.src).map(each => each.naturalWidth)"))
    assert page.call("Network.getAllCookies")["cookies"] == []


def test_pages_can_be_read_without_javascript(page: Browser, pages_hub: FilledHub) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(f"{pages_hub.url}/ines/Dunes-000")
    assert "Calm landscapes in the manner of Dunes" in page.script("document.body.innerText")
    assert _visible(page, ".pictures img") and _visible(page, ".facts") and _visible(page, ".command pre")
    assert not _visible(page, "button.copy") and not _visible(page, "[data-theme-switch]")
    page.open(f"{pages_hub.url}/models?q=dunes")
    assert _visible(page, ".sort button") and _visible(page, ".filter a")
    page.open(
        f"{pages_hub.url}/ines/SmolLM2-135M-Instruct-GGUF/blob/main/SmolLM2-135M-Instruct.Q4_1.gguf?t=attn_q"
    )
    assert page.script("document.querySelectorAll('#tensors tbody tr').length") == 30


def test_a_rated_picture_is_veiled_until_asked_for_without_javascript(
    page: Browser, pages_hub: FilledHub
) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(f"{pages_hub.url}/yuki/Nocturne-003")
    assert not _visible(page, ".pictures img")
    x, y = _middle(page, ".veil summary .button")
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert _visible(page, ".pictures img")


def test_the_keyboard_is_enough(page: Browser, pages_hub: FilledHub) -> None:
    page.open(f"{pages_hub.url}/ines/Dunes-000")
    page.press("Tab", _TAB)
    assert page.script("document.activeElement.className") == "skip"
    assert page.script("document.activeElement.getBoundingClientRect().top") >= 0
    page.press("Enter", 13)
    assert page.script("document.activeElement.id") == "content"
    page.press("/", _SLASH)
    assert page.script("document.activeElement.id") == "top-search"
    page.script("document.querySelector('a[data-large]').focus()")
    page.press("Enter", 13)
    page.wait_until("document.querySelector('dialog[open]')")
    first = page.script("document.querySelector('dialog img').src")
    page.press("ArrowRight", _RIGHT)
    assert page.script("document.querySelector('dialog img').src") != first
    assert "dunes_000" in page.script("document.querySelector('dialog figcaption').innerText")
    page.press("Escape", _ESCAPE)
    assert not page.script("Boolean(document.querySelector('dialog[open]'))")
    assert page.script("document.activeElement.matches('a[data-large]')")


def test_chosen_colours_are_remembered(page: Browser, pages_hub: FilledHub) -> None:
    page.open(f"{pages_hub.url}/")
    dark, light = "rgb(18, 21, 24)", "rgb(246, 243, 236)"
    assert page.script("getComputedStyle(document.body).backgroundColor") == light
    page.script("document.querySelector('[data-theme-switch]').click()")
    assert page.script("getComputedStyle(document.body).backgroundColor") == dark
    page.open(f"{pages_hub.url}/login")
    assert page.script("getComputedStyle(document.body).backgroundColor") == dark
    page.script("document.querySelector('[data-theme-switch]').click(); localStorage.clear()")
    assert page.script("getComputedStyle(document.body).backgroundColor") == light


def test_tensors_are_filtered_while_one_types(page: Browser, pages_hub: FilledHub) -> None:
    page.open(f"{pages_hub.url}/ines/SmolLM2-135M-Instruct-GGUF/blob/main/SmolLM2-135M-Instruct.Q4_1.gguf")
    page.script("document.getElementById('tensor-filter').focus()")
    page.call("Input.insertText", text="blk.7. attn")
    shown = page.script(
        "[...document.querySelectorAll('#tensors tbody tr')].filter(row => !row.hidden).length"
    )
    assert shown == 5


def test_sorting_goes_at_once(page: Browser, pages_hub: FilledHub) -> None:
    page.open(f"{pages_hub.url}/models")
    page.script("document.getElementById('sort').value = 'size'; "
                "document.getElementById('sort').dispatchEvent(new Event('change'))")  # fmt: skip
    page.wait_until("location.search.includes('sort=size')")
    assert "SmolLM2" in page.wait_until("document.querySelector('.card-name')?.innerText")


def _visible(page: Browser, selector: str) -> bool:
    """Whether the first such element is drawn. (What a test asks runs even where the page's own scripts do not.)"""
    return bool(page.script(f"Boolean(document.querySelector({selector!r})?.checkVisibility())"))


def _middle(page: Browser, selector: str) -> tuple[float, float]:
    x, y = page.script(f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
                       f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
    return x, y


def test_a_family_tree_on_a_phone_begins_at_its_middle(page: Browser, pages_hub: FilledHub) -> None:
    page.look(width=360, height=780)
    page.open(f"{pages_hub.url}/ines/SmolLM2-135M-Instruct-GGUF/lineage")
    x, width = page.script(
        "(b => [b.x, b.width])(document.querySelector('.graph .here').getBoundingClientRect())"
    )
    assert x >= 0 and x + width <= 360
