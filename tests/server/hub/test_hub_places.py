"""A hub on PostgreSQL and S3, both real: with clients of Hugging Face, its upkeep, restarted, two at once."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from killed_hubs import Trials
from pushing import commit, commit_files, make_repo, push_large, small
from running_hub import RunningHub, started_hub

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


def test_upkeep(far_hub: RunningHub, alice: str) -> None:
    repo = make_repo(far_hub, alice, "alice/kept")
    push_large(far_hub, alice, repo, "w.bin", os.urandom(1_200_000))
    assert far_hub.verb("gc", "--grace", "0")["dry_run"] is False
    found = far_hub.verb("check")
    assert found["problems"] == [] and found["blobs"] > 3
    answer = far_hub.get(f"/{repo}/resolve/main/w.bin", alice, follow_redirects=True)
    assert len(answer.content) == 1_200_000


def test_without_redirects_the_hub_sends_all_of_it(far_hub: RunningHub, alice: str, tmp_path: Path) -> None:
    repo, content = make_repo(far_hub, alice, "alice/through"), os.urandom(1_100_000)
    push_large(far_hub, alice, repo, "w.bin", content)
    with second_hub(far_hub, tmp_path, "--no-redirect") as second:
        answer = second.get(f"/{repo}/resolve/main/w.bin", alice)
        assert answer.status_code == 200 and answer.content == content


def test_of_two_hubs_pushers_one_wins_each_round(far_hub: RunningHub, alice: str, tmp_path: Path) -> None:
    repo = make_repo(far_hub, alice, "alice/contest")
    with second_hub(far_hub, tmp_path) as second, ThreadPoolExecutor(4) as pool:
        for number in range(6):
            parent = far_hub.get(f"/api/models/{repo}", alice).json()["sha"]
            change = [small(f"{number}-{racer}", b"x") for racer in range(4)]
            racers = [
                pool.submit(commit, (far_hub, second)[racer % 2], alice, repo, change[racer], parent=parent)
                for racer in range(4)
            ]
            assert sorted(racer.result().status_code for racer in racers) == [200, 412, 412, 412]
        many = [
            pool.submit(commit, (far_hub, second)[n % 2], alice, repo, small(f"free-{n}", b"y"))
            for n in range(8)
        ]
        assert [each.result().status_code for each in many] == [200] * 8
        log = second.get(f"/api/models/{repo}/commits/main", alice).json()
    assert len(log) == 1 + 6 + 8
    assert far_hub.verb("check", "--quick")["problems"] == []


def test_what_is_cleared_away_beside_pushes_is_no_commits(
    far_hub: RunningHub, alice: str, tmp_path: Path
) -> None:
    """Without any grace: a push may be told to send again, and what it was promised stays."""
    repo, content = make_repo(far_hub, alice, "alice/cleared"), os.urandom(1_000_100)
    with second_hub(far_hub, tmp_path) as second, ThreadPoolExecutor(2) as pool:
        collecting = pool.submit(lambda: [second.verb("gc", "--grace", "0") for _ in range(2)])
        kept = []
        while not collecting.done():
            content = os.urandom(1_000_100)
            with contextlib.suppress(AssertionError):
                push_large(far_hub, alice, repo, f"{len(kept)}.bin", content)
                kept.append(content)
        assert all("error" not in found for found in collecting.result())
    for number, content in enumerate(kept):
        path = f"/{repo}/resolve/main/{number}.bin"
        assert far_hub.get(path, alice, follow_redirects=True).content == content
    assert far_hub.verb("check")["problems"] == []


def test_whoever_is_killed_nothing_is_lost(
    s3: ObjectServer, postgresql: PostgresCluster, tmp_path: Path
) -> None:
    places = ("--database", postgresql.new_database(), "--bucket", "s3://hub/killed")
    trials = Trials(tmp_path, 1, places, s3.environment)
    trials.one("hub", 0)
    trials.one("client", 1)
    assert trials.promised


@contextlib.contextmanager
def second_hub(first: RunningHub, home: Path, *options: str) -> Iterator[RunningHub]:
    """Another process for the same hub, as on another machine: with a folder of its own and the hub's keys."""
    shutil.copytree(first.root / "keys", home / "hub" / "keys")
    shutil.copy2(first.root / "places.json", home / "hub" / "places.json")
    with started_hub(home, "--rate", "0", *options, variables=first.variables) as second:
        assert second.admin_token == ""
        yield second
