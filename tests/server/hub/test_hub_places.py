"""A hub on PostgreSQL and S3, both real: with clients of Hugging Face, its upkeep, restarted, two at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from killed_hubs import Trials
from pushing import commit, commit_files, make_repo, push_large, small
from running_hub import RunningHub, started_hub

from made_things import made_model
from nomoat.base.digests import sha256_file
from own_servers import ObjectServer, PostgresCluster


@pytest.fixture(scope="module")
def places(s3: ObjectServer, postgresql: PostgresCluster) -> tuple[str, ...]:
    """The options of a new hub."""
    return "--database", postgresql.new_database(), "--bucket", "s3://hub/places"


@pytest.fixture(scope="module")
def far_hub(
    s3: ObjectServer, places: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningHub]:
    """The hub that most tests share."""
    home = tmp_path_factory.mktemp("far-hub")
    with started_hub(home, "--rate", "0", *places, variables=s3.environment) as hub:
        yield hub
    assert (home / "hub.log").read_text() == ""


@pytest.fixture(scope="module")
def alice(far_hub: RunningHub) -> str:
    return far_hub.user("alice")


@pytest.fixture(scope="module")
def second(far_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """Another process for the same hub, as on another machine: with a folder of its own and the hub's keys."""
    home = tmp_path_factory.mktemp("second-hub")
    shutil.copytree(far_hub.root / "keys", home / "hub" / "keys")
    shutil.copy2(far_hub.root / "places.json", home / "hub" / "places.json")
    with started_hub(home, "--rate", "0", "--no-redirect", variables=far_hub.variables) as hub:
        assert hub.admin_token == ""
        yield hub
    assert (home / "hub.log").read_text() == ""


@pytest.mark.parametrize("script", ["push_and_pull", "commits_and_conflicts", "list_and_search"])
def test_the_python_client_pushes_and_pulls(far_hub: RunningHub, alice: str, script: str) -> None:
    far_hub.run_client("hf_scripts", script, alice)


def test_xet_pushes(far_hub: RunningHub) -> None:
    on = {"HF_HUB_DISABLE_XET": "0", "HF_XET_TELEMETRY_ENABLED": "0"}
    output = far_hub.run_client("xet_scripts", "push_a_folder", far_hub.user("xenia"), **on)
    assert output.split()[-2:] == ["True", "8"]


def test_a_large_file_is_fetched_from_the_bucket_itself(
    far_hub: RunningHub, alice: str, s3: ObjectServer
) -> None:
    repo, content = make_repo(far_hub, alice, "alice/large"), os.urandom(2_000_000)
    digest = push_large(far_hub, alice, repo, "größe 1.bin", content)
    path = f"/{repo}/resolve/main/gr%C3%B6%C3%9Fe%201.bin"
    answer = far_hub.get(path, alice)
    assert answer.status_code == 302 and answer.headers["Location"].startswith(s3.url)
    assert answer.headers["X-Linked-Etag"] == f'"{digest.removeprefix("sha256:")}"'
    at_bucket = httpx.get(answer.headers["Location"])
    assert at_bucket.content == content
    assert "filename*=UTF-8''gr%C3%B6%C3%9Fe%201.bin" in at_bucket.headers["Content-Disposition"]
    assert at_bucket.headers["Content-Type"] == "application/octet-stream"
    part = far_hub.get(path, alice, headers={"Range": "bytes=10-19"}, follow_redirects=True)
    assert part.status_code == 206 and part.content == content[10:20]


def test_questions_about_a_file_lead_nowhere_else(far_hub: RunningHub, alice: str) -> None:
    repo = make_repo(far_hub, alice, "alice/asked")
    push_large(far_hub, alice, repo, "w.bin", b"w" * 1_500_000)
    answer = far_hub.request("HEAD", f"/{repo}/resolve/main/w.bin", alice, follow_redirects=True)
    assert answer.status_code == 200 and answer.headers["Content-Length"] == "1500000"
    assert answer.headers["X-Repo-Commit"] and not answer.history
    commit_files(far_hub, alice, repo, config__json=b"{}")
    assert far_hub.get(f"/{repo}/resolve/main/config.json", alice).content == b"{}"


def test_nomoats_own_client_pushes_and_pulls(far_hub: RunningHub, alice: str, tmp_path: Path) -> None:
    made, place = made_model(tmp_path / "made.gguf", 3), f"{far_hub.url.removeprefix('http://')}/alice/made"
    own = {"NOMOAT_HOME": str(tmp_path / "home"), "HF_TOKEN": ""}

    def run(*arguments: str, typed: str = "") -> None:
        argv = [sys.executable, "-m", "nomoat.cli.main", *arguments]
        done = subprocess.run(argv, input=typed, capture_output=True, text=True, env={**os.environ, **own}, timeout=60,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr

    run("login", place.partition("/")[0], "--token-file", "-", typed=alice)
    run("push", str(made), place, "--licence", "MIT")
    run("pull", place, "--json")
    digest = sha256_file(made)
    assert any(
        sha256_file(path) == digest
        for path in (tmp_path / "home").rglob("*")
        if path.stat().st_size > 1 << 20
    )


def test_without_redirects_the_hub_sends_all_of_it(
    far_hub: RunningHub, second: RunningHub, alice: str
) -> None:
    repo, content = make_repo(far_hub, alice, "alice/through"), os.urandom(1_100_000)
    push_large(far_hub, alice, repo, "w.bin", content)
    answer = second.get(f"/{repo}/resolve/main/w.bin", alice)
    assert answer.status_code == 200 and answer.content == content


def test_of_two_hubs_pushers_one_wins_each_round(far_hub: RunningHub, second: RunningHub, alice: str) -> None:
    repo, hubs = make_repo(far_hub, alice, "alice/contest"), (far_hub, second) * 4
    with ThreadPoolExecutor(4) as pool:
        for number in range(6):
            parent = far_hub.get(f"/api/models/{repo}", alice).json()["sha"]
            racers = [
                pool.submit(commit, hubs[racer], alice, repo, small(f"{number}-{racer}", b"x"), parent=parent)
                for racer in range(4)
            ]
            assert sorted(racer.result().status_code for racer in racers) == [200, 412, 412, 412]
        many = [pool.submit(commit, hub, alice, repo, small(f"free-{n}", b"y")) for n, hub in enumerate(hubs)]
        assert [each.result().status_code for each in many] == [200] * 8
    log = second.get(f"/api/models/{repo}/commits/main", alice).json()
    assert len(log) == 1 + 6 + 8


def test_what_is_cleared_away_beside_pushes_is_no_commits(
    far_hub: RunningHub, second: RunningHub, alice: str
) -> None:
    """Without any grace: a push may be told to send again, and what it was promised stays."""
    repo, kept = make_repo(far_hub, alice, "alice/cleared"), dict[str, bytes]()
    with ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(second.verb, "gc", "--grace", "0")
        for number in range(200):
            content = os.urandom(1_000_100)
            with contextlib.suppress(AssertionError):
                push_large(far_hub, alice, repo, f"{number}.bin", content)
                kept[f"{number}.bin"] = content
            if collecting.done():
                break
        assert "error" not in collecting.result() and kept
    for path, content in kept.items():
        answer = far_hub.get(f"/{repo}/resolve/main/{path}", alice, follow_redirects=True)
        assert answer.content == content
    assert far_hub.verb("check")["problems"] == []


def test_a_hub_that_is_killed_loses_nothing(
    s3: ObjectServer, postgresql: PostgresCluster, tmp_path: Path
) -> None:
    places = ("--database", postgresql.new_database(), "--bucket", "s3://hub/killed")
    trials = Trials(tmp_path, 1, places, s3.environment)
    for number in range(6):
        trials.one("hub", number)
        if trials.promised:  # on a busy machine the first kill may come before the first commit
            break
    assert trials.promised
