"""The commands that a page offers, as somebody types them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from filled_hub import FilledHub

from nomoat.base.settings import child_environment


@pytest.mark.parametrize("page", ["/ines/Dunes-000", "/datasets/ines/kitchen-notes"])
def test_the_way_to_use_it_works_for_what_the_store_does_not_keep(
    pages_hub: FilledHub, tmp_path: Path, page: str
) -> None:
    html = httpx.get(pages_hub.url + page, headers={"Accept": "text/html"}).text
    command = re.search(r"nomoat pull [^\n<]+", html)
    assert command is not None
    argv = [sys.executable, "-m", "nomoat.cli.main", *command[0].split()[1:]]
    environment = child_environment(NOMOAT_HOME=str(tmp_path / "home"))
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / page.rpartition("/")[2] / "README.md").is_file()
    assert ("/compare?a=" in html) == (not page.startswith("/datasets"))
