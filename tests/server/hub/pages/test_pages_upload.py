"""Files sent from a browser: dropped, interrupted, gone on with, committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from filled_hub import FilledHub
from test_pages_axe import log_in

from nomoat.base.digests import sha256_file
from nomoat.formats.safetensors_file import safetensors_bytes
from nomoat.share.names import RepoName

_PART_BYTES = 8 << 20


def test_dropped_files_go_on_where_they_were_interrupted(
    page: Browser, pages_hub: FilledHub, tmp_path: Path
) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (5, 1 << 20)).astype(np.float32)  # 20 MB: three parts
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"w": weights}, {"format": "pt"}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Dropped\n\nSent by drag and drop.\n")
    log_in(page, pages_hub, pages_hub.ines)
    page.open(f"{pages_hub.url}/upload")
    page.script("document.getElementById('repo').value = 'ines/dropped'")
    # After the first part of the large file the connection breaks.
    page.script("""{const real = fetch; window.parts = 0; window.broken = true;
        window.fetch = (to, how) => { if (how.method === "PUT" && how.body.size > 1e6 && ++parts > 1 && broken)
            return Promise.reject(new TypeError("no connection")); return real(to, how); };
        const later = setTimeout; window.setTimeout = (act, ms) => later(act, ms / 50);}""")
    _drop(page, tmp_path / "README.md", tmp_path / "model.safetensors")
    page.wait_until("document.querySelectorAll('.sending li').length === 2")
    page.script("document.querySelector('[data-send]').click()")
    said = page.wait_until("document.querySelector('[data-message]').textContent")
    assert "What arrived is kept" in said
    assert (page.script("parts"), _parts_here(pages_hub)) == (6, 1)  # one arrived, one was tried five times
    page.script("broken = false; parts = 0; document.querySelector('[data-send]').click()")
    page.wait_until("location.pathname === '/ines/dropped'")
    hub = pages_hub.hub
    repo = hub.registry.repos.get(
        hub.registry.accounts.identity("ines"), RepoName.parse("model", "ines/dropped")
    )
    files = {entry.path: entry for entry in hub.registry.history.files(hub.commit(repo))}
    assert files["model.safetensors"].digest == sha256_file(tmp_path / "model.safetensors")
    assert files["model.safetensors"].lfs and not files["README.md"].lfs
    assert _parts_here(pages_hub) == 0
    assert repo.licence == "mit"


def test_what_is_here_is_not_sent_again(page: Browser, pages_hub: FilledHub, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the same notes\n" * 100)
    log_in(page, pages_hub, pages_hub.ines)
    for repo, sent in (("ines/notes-once", 1), ("ines/notes-twice", 0)):
        page.open(f"{pages_hub.url}/upload?repo={repo}")
        _drop(page, tmp_path / "notes.txt")
        page.wait_until("!document.querySelector('[data-send]').disabled")
        page.events.clear()
        page.script("document.querySelector('[data-send]').click()")
        page.wait_until(f"location.pathname === '/{repo}'")
        asked = [
            event["params"] for event in page.events if event.get("method") == "Network.requestWillBeSent"
        ]
        assert [each["request"]["method"] for each in asked].count("PUT") == sent


@pytest.mark.parametrize("size", [0, 1, 55, 56, 64, 65, 4_194_304 + 17])
def test_the_browser_computes_sha256(page: Browser, pages_hub: FilledHub, size: int) -> None:
    page.open(f"{pages_hub.url}/login")
    script = page.script("document.querySelector('script[type=module]').src").replace("hub.js", "sha256.js")
    found = page.script(
        f"""import({script!r}).then(({{Sha256}}) => {{
            const bytes = new Uint8Array({size});
            for (let at = 0; at < {size}; at++) bytes[at] = (at * 131 + (at >> 8) * 7) & 255;
            const hash = new Sha256();
            for (let at = 0; at < {size}; at += 1009) hash.update(bytes.subarray(at, at + 1009));
            return hash.hex();
        }})"""
    )
    index = np.arange(size, dtype=np.int64)
    assert (
        found
        == hashlib.sha256(((index * 131 + (index >> 8) * 7) & 255).astype(np.uint8).tobytes()).hexdigest()
    )


def _drop(page: Browser, *paths: Path) -> None:
    """Drag files over the page and let them go, as the desktop does."""
    x, y = page.script(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])"
        "(document.querySelector('[data-drop]').getBoundingClientRect())"
    )
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


def _parts_here(hub: FilledHub) -> int:
    folder = hub.hub.registry.config.root / "uploads"
    return sum(path.is_file() and path.stat().st_size == _PART_BYTES for path in folder.rglob("*"))
