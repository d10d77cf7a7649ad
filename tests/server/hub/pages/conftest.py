"""One filled hub and one browser for all tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from filled_hub import FilledHub, filled_hub

_N_IMAGE_LORAS = 200
_PACKAGE = Path("tests/server/hub/npm/node_modules/axe-core/axe.min.js")


@pytest.fixture(scope="session")
def pages_hub(
    tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path, trained_adapters: dict[str, Path]
) -> Iterator[FilledHub]:
    """A hub with the embedded model, three adapters trained on it, a data set and 200 image LoRAs."""
    with filled_hub(tmp_path_factory.mktemp("pages"), smollm2_path, trained_adapters, _N_IMAGE_LORAS) as hub:
        yield hub


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser."""
    if find_chromium() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """The browser as somebody unknown sees it: no cookies, scripts on, a window of ordinary size."""
    chromium.call("Network.clearBrowserCookies")
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    chromium.look()
    chromium.events.clear()
    yield chromium
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """The script of axe-core, which is in no package of nomoat."""
    path = request.config.rootpath / _PACKAGE
    if not path.is_file():
        pytest.skip("axe-core is missing: run `npm ci` in tests/server/hub/npm")
    return path.read_text(encoding="utf-8")
