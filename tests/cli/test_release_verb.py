"""`nomoat push --release`: a name that stands for one version for ever, or a plain word that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import HubProcess, Person, running_hub
from ordinary_hub import ordinary_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def author(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> Person:
    home = tmp_path_factory.mktemp("author")
    person = Person(home, home / "no-model.gguf")
    person.login(hub)
    return person


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    return _write(tmp_path / "letters", "first")


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "letter.txt").write_text(f"{text}\n")
    return folder


def _pulled(person: Person, name: str, folder: Path) -> str:
    person.json("pull", name, "--to", folder)
    return (folder / "letter.txt").read_text().strip()


def _post(hub: HubProcess, place: str, content: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    return httpx.post(f"{hub.url}/api/datasets/admin/{place}", json=content, headers=headers)


def test_a_release_stays_what_it_is(hub: HubProcess, author: Person, letters: Path, tmp_path: Path) -> None:
    place = f"{hub.host}/datasets/admin/letters"
    first = author.json("push", letters, place, "--release", "v1.0")
    assert (first["release"], first["release_stays"], first["changed"]) == ("v1.0", True, True)
    again = author.json("push", letters, place, "--release", "v1.0")
    assert (again["commit"], again["release_stays"], again["changed"]) == (first["commit"], True, False)

    _write(letters, "second")
    error = author.json("push", letters, place, "--release", "v1.0", status=1)["error"]
    assert error["code"] == "conflict" and first["commit"][:10] in error["message"]
    assert "--release NAME" in error["hint"]
    assert _pulled(author, place, tmp_path / "before") == "first", "what was refused must not be sent"

    second = author.json("push", letters, place)
    assert (second["release"], second["release_stays"]) == (None, None)
    said = author.run("push", letters, place, "--release", "v1.1").stdout
    assert "has all of it already" in said and f"release v1.1: nomoat pull {place}@v1.1" in said
    for name, text in (("@v1.0", "first"), ("@v1.1", "second"), ("", "second")):
        assert _pulled(author, place + name, tmp_path / f"out{name}") == text


def test_a_release_is_no_tag_that_moves_and_no_branch(hub: HubProcess, author: Person, letters: Path) -> None:
    place = f"{hub.host}/datasets/admin/named"
    commit = author.json("push", letters, place)["commit"]
    assert _post(hub, f"named/tag/{commit}", {"tag": "nightly"}).status_code == 200
    error = author.json("push", letters, place, "--release", "nightly", status=1)["error"]
    assert error["code"] == "conflict" and "may be moved" in error["message"] and "delete" in error["hint"]
    assert _post(hub, "named/branch/dev", {}).status_code == 200
    for name in ("dev", "main"):
        error = author.json("push", letters, place, "--release", name, status=1)["error"]
        assert error["code"] == "conflict" and f"{name} is a branch" in error["message"]
    for name in ("not a name", ""):
        error = author.json("push", letters, place, "--release", name, status=1)["error"]
        assert error["code"] == "bad_input" and "cannot name a branch or tag" in error["message"]


def test_the_name_of_a_release_that_is_gone_stays_taken(
    hub: HubProcess, author: Person, letters: Path
) -> None:
    place = f"{hub.host}/datasets/admin/anew"
    author.json("push", letters, place, "--release", "v1")
    _delete_with_releases(hub, "datasets/admin/anew")
    _write(letters, "another")
    error = author.json("push", letters, place, "--release", "v1", status=1)["error"]
    assert error["code"] == "conflict" and "another release before" in error["message"]
    assert "was pushed, without a release" in error["message"] and "--release NAME" in error["hint"]
    assert author.json("push", letters, place, "--release", "v2")["release_stays"]


def _delete_with_releases(hub: HubProcess, name: str) -> None:
    """As an owner does on the page with the settings."""
    with httpx.Client(base_url=hub.url, headers={"Accept": "text/html", "Origin": hub.url}) as client:
        client.post("/login", data={"token": hub.admin_token, "next": "/"})
        csrf = client.get("/tokens").text.split('name="csrf" value="')[1][:64]
        fields = {"csrf": csrf, "name": name.removeprefix("datasets/"), "releases": "yes"}
        assert client.post(f"/{name}/settings/delete", data=fields).status_code == 303


def test_a_hub_without_releases_is_said_to_have_none(
    hub: HubProcess, author: Person, letters: Path, tmp_path: Path
) -> None:
    with ordinary_hub(hub.url) as host:
        place = f"{host}/datasets/admin/ordinary"
        author.json("login", host, "--token-file", "-", typed=hub.admin_token)
        first = author.json("push", letters, place, "--release", "v1.0")
        assert (first["release"], first["release_stays"]) == ("v1.0", False)
        said = author.run("push", letters, place, "--release", "v1.0").stderr
        assert f"{host} has no releases that stay" in said and first["commit"] in said
        _write(letters, "second")
        error = author.json("push", letters, place, "--release", "v1.0", status=1)["error"]
        assert error["code"] == "conflict" and "has a tag v1.0 already" in error["message"]
        assert _pulled(author, f"{place}@v1.0", tmp_path / "out") == "first"
