"""The list of versions: of which branch it is, and which of them are releases."""

from __future__ import annotations

import re

import httpx
import pytest
from filled_hub import FilledHub
from filling import commit_files

from nomoat.share.names import RepoName


@pytest.fixture(scope="module")
def anonymous(pages_hub: FilledHub) -> httpx.Client:
    """Somebody unknown."""
    return httpx.Client(base_url=pages_hub.url, headers={"Accept": "text/html"})


def test_the_list_of_versions_names_releases(anonymous: httpx.Client, pages_hub: FilledHub) -> None:
    name = _commit(pages_hub, "released", {"README.md": b"# First"})
    registry = pages_hub.hub.registry
    repo = registry.repos.get(registry.accounts.identity("ines"), RepoName.parse("model", name))
    release = registry.history.create_tag(repo, "v1.0", immutable=True)
    registry.history.create_tag(repo, "nightly")
    _commit(pages_hub, "released", {"README.md": b"# Second"})
    text = re.sub(r"<[^>]+>", " ", rows := anonymous.get(f"/{name}/commits").text)
    assert re.search(r"v1\.0 \(release\)", text) and re.search(r"nightly \(tag\)", text)
    (row,) = (each for each in rows.split("<tr>") if "release v1.0" in each)
    assert release.commit[:12] in row and "nightly" not in row


def test_the_versions_of_a_revision_are_where_links_of_hugging_face_lead(
    anonymous: httpx.Client, pages_hub: FilledHub
) -> None:
    registry = pages_hub.hub.registry
    name = _commit(pages_hub, "in-branches", {"a.txt": b"first one"})
    who, place = registry.accounts.identity("ines", "write"), RepoName.parse("model", name)
    first = registry.history.create_branch(registry.repos.get(who, place), "feature/x").commit
    commit_files(pages_hub.hub, who, place, {"b.txt": b"later"}, "Later than the branch")
    for address in (f"/{name}/commits", f"/{name}/commits/main", f"/{name}/commits/main/"):
        assert "Later than the branch" in anonymous.get(address).text
    for revision in ("feature%2Fx", first):
        answer = anonymous.get(f"/{name}/commits/{revision}")
        assert answer.status_code == 200 and "Later than the branch" not in answer.text
    for rest in ("nowhere", "main/a.txt"):
        assert anonymous.get(f"/{name}/commits/{rest}").status_code == 404


def _commit(hub: FilledHub, name: str, files: dict[str, bytes]) -> str:
    who = hub.hub.registry.accounts.identity("ines", "write")
    return str(commit_files(hub.hub, who, RepoName.parse("model", f"ines/{name}"), files).name)
