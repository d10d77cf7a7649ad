"""Two hubs: one mirrors the other, follows its changes, and takes down what the other one took down."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import NOMOAT, HubProcess, Person, new_user, write_adapter_folder

from nomoat.base.settings import child_environment

OWN = ("--licence", "Apache-2.0", "--data-licence", "own", "--allow", "base-licence")
REASON = "It repeats letters word for word."


@pytest.fixture(scope="module")
def origin(start_hub: Callable[[str], HubProcess]) -> HubProcess:
    return start_hub("origin")


@pytest.fixture(scope="module")
def mirror(start_hub: Callable[[str], HubProcess]) -> HubProcess:
    return start_hub("mirror")


@pytest.fixture(scope="module")
def ada(origin: HubProcess, tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path) -> Person:
    person = Person(tmp_path_factory.mktemp("ada"), smollm2_path)
    person.login(origin, new_user(origin, "ada"))
    return person


def _hub(hub: HubProcess, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What `nomoat hub ... --json` says on that hub's machine, while the hub runs."""
    argv = [*NOMOAT, "hub", *arguments, "--root", str(hub.root), "--json"]
    environment = child_environment(NOMOAT_HOME=str(hub.root / "home"))
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _follow(mirror: HubProcess, origin: HubProcess, *names: str, status: int = 0) -> dict[str, Any]:
    return _hub(mirror, "mirror", origin.url, *names, "--allow-private", status=status)


def test_a_mirror_has_the_same_and_can_prove_it(
    origin: HubProcess, mirror: HubProcess, ada: Person, adapter: Path, tmp_path: Path, smollm2_path: Path
) -> None:
    ada.json("push", adapter, f"{origin.host}/ada/notes", *OWN)
    [first] = _follow(mirror, origin, "ada/notes")["repos"]
    assert first["outcome"] == "mirrored" and first["fetched_bytes"] > 100_000
    reader = Person(tmp_path / "reader", smollm2_path)
    theirs = reader.json("pull", f"{origin.host}/ada/notes", "--as", "theirs")
    pulled = reader.json("pull", f"{mirror.host}/ada/notes", "--as", "ours")
    assert (pulled["signer"], pulled["digest"]) == ("ada", theirs["digest"])
    assert pulled["trained_on"] == theirs["trained_on"] == pulled["base_digest"]
    page = {"Accept": "text/html"}
    assert 'class="badge good"' in httpx.get(f"{mirror.url}/ada/notes", headers=page).text
    assert 'class="edge edge-verified"' in httpx.get(f"{mirror.url}/ada/notes/lineage", headers=page).text

    [again] = _follow(mirror, origin, "ada/notes")["repos"]
    assert (again["outcome"], again["fetched_bytes"]) == ("unchanged", 0)
    letter = tmp_path / "letter"
    letter.mkdir()
    (letter / "more.txt").write_text("one more file\n")
    ada.json("push", letter, f"{origin.host}/ada/notes")
    [changed] = _follow(mirror, origin, "ada/notes")["repos"]
    assert changed["outcome"] == "mirrored" and 0 < changed["fetched_bytes"] < 100_000
    assert httpx.get(f"{mirror.url}/ada/notes/resolve/main/more.txt").text == "one more file\n"
    assert reader.json("pull", f"{mirror.host}/ada/notes", "--as", "ours")["signer"] == "ada"
    assert _hub(mirror, "check")["problems"] == []


def test_what_the_origin_takes_down_goes_here_and_comes_back(
    origin: HubProcess, mirror: HubProcess, ada: Person, adapter: Path
) -> None:
    ada.json("push", adapter, f"{origin.host}/ada/letters", *OWN)
    _follow(mirror, origin, "ada/letters")
    page = {"Accept": "text/html"}
    assert httpx.get(f"{mirror.url}/ada/letters", headers=page).status_code == 200
    taken = _hub(origin, "takedown", "ada/letters", "--reason", REASON)
    assert taken["targets"] == ["model ada/letters"]
    assert httpx.get(f"{origin.url}/api/models/ada/letters").status_code == 410

    followed = _follow(mirror, origin, "ada/letters")
    assert followed["recalls"]["taken_down"] == ["model:ada/letters"]
    assert followed["repos"][0]["outcome"] == "taken down"
    for hub in (origin, mirror):
        shown = httpx.get(f"{hub.url}/ada/letters", headers=page)
        assert shown.status_code == 410 and REASON in shown.text
        assert httpx.get(f"{hub.url}/ada/letters/resolve/main/adapter.gguf").status_code == 410
        assert "ada/letters" not in httpx.get(f"{hub.url}/models", headers=page).text

    _hub(origin, "takedown", "ada/letters", "--reason", "It was a mistake.", "--undo")
    assert _follow(mirror, origin, "ada/letters")["recalls"]["restored"] == ["model:ada/letters"]
    assert httpx.get(f"{mirror.url}/ada/letters", headers=page).status_code == 200


def test_one_file_or_one_version_is_taken_down_by_its_digest(
    origin: HubProcess, mirror: HubProcess, ada: Person, tmp_path: Path, smollm2_path: Path
) -> None:
    place = f"{origin.host}/ada/versions"
    one, other = (write_adapter_folder(smollm2_path, tmp_path / str(seed), seed) for seed in (5, 6))
    first = ada.json("push", one, place, *OWN)["commit"]
    ada.json("push", other, place, *OWN)
    before = {seed: _digests(origin, "ada/versions", seed) for seed in (first, "main")}
    taken = _hub(origin, "takedown", f"ada/versions@{first}", "--reason", REASON)["targets"]
    assert set(taken) == set(before[first].values()) and not set(taken) & set(before["main"].values())
    url = f"{origin.url}/ada/versions/resolve"
    assert httpx.get(f"{url}/{first}/adapter.gguf").status_code == 410
    assert httpx.get(f"{url}/main/adapter.gguf").status_code == 200
    file = _hub(origin, "takedown", "ada/versions:adapter.gguf", "--reason", REASON)["targets"]
    assert file == [before["main"]["adapter.gguf"]]
    assert httpx.get(f"{url}/main/adapter.gguf").status_code == 410
    assert httpx.get(f"{url}/main/adapter_model.safetensors").status_code == 200
    [refused] = _follow(mirror, origin, "ada/versions", status=1)["repos"]
    assert refused["outcome"] == "refused" and REASON in refused["why"]


def _digests(hub: HubProcess, name: str, revision: str) -> dict[str, str]:
    tree = httpx.get(f"{hub.url}/api/models/{name}/tree/{revision}").json()
    return {entry["path"]: f"sha256:{entry['lfs']['oid']}" for entry in tree if "lfs" in entry}


def test_private_addresses_and_private_things_are_left_alone(
    origin: HubProcess, mirror: HubProcess, ada: Person, tmp_path: Path, smollm2_path: Path
) -> None:
    letter = tmp_path / "letter"
    letter.mkdir()
    (letter / "a.txt").write_text("hello\n")
    error = _hub(mirror, "mirror", origin.url, "ada/notes", status=1)["error"]
    assert error["code"] == "refused" and "no address of the public internet" in error["message"]
    ada.json("push", letter, f"{origin.host}/ada/diary", "--private")
    [private] = _follow(mirror, origin, "ada/diary")["repos"]
    assert private["outcome"] == "gone"
    for hub in (mirror, origin):
        admin = Person(tmp_path / hub.root.name, smollm2_path)
        admin.login(hub)
        admin.json("push", letter, f"{hub.host}/admin/own")
    [own] = _follow(mirror, origin, "admin/own", status=1)["repos"]
    assert own["outcome"] == "refused" and "this hub's own" in own["why"]


def test_a_killed_mirror_goes_on_where_it_was(origin: HubProcess, mirror: HubProcess, ada: Person) -> None:
    ada.json("push", "smollm2", f"{origin.host}/ada/base", "--whole")
    argv = [*NOMOAT, "hub", "mirror", origin.url, "ada/base", "--allow-private", "--limit-rate", "30MB",
            "--root", str(mirror.root)]  # fmt: skip
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=child_environment()) as process:
        until = time.monotonic() + 30
        while _fetched_parts(mirror.root) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert _fetched_parts(mirror.root)
    asked = httpx.get(f"{mirror.url}/api/models/ada/base")
    assert asked.headers["X-Error-Code"] == "RepoNotFound", "half of it is nothing"
    [done] = _follow(mirror, origin, "ada/base")["repos"]
    assert done["outcome"] == "mirrored" and done["fetched_bytes"] <= 98_362_432 - (8 << 20)
    checked = _hub(mirror, "check", "--repair")
    assert checked["problems"] == checked["repaired"] == []


def _fetched_parts(root: Path) -> int:
    """Of the largest file."""
    journals = (root / "mirroring").glob("*/journal")
    return max((len(journal.read_text().splitlines()) - 1 for journal in journals), default=0)
