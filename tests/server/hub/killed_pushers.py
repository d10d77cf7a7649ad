"""Hubs, and Hugging Face's own clients, killed with SIGKILL while they push. `killed_pushers.py TRIALS [SEED]`.

A trial kills the hub (even numbers) or the client (odd ones) at a random moment. Then every commit that a client was
told of must be there, the whole registry must be as `nomoat hub check` wants it, and the hub, once it is started
again, must hand out every file whole.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from running_hub import RunningHub, started_hub

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import NotFoundError
from nomoat.share.names import RepoName
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import Commit
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.upkeep.check import check

__all__ = ["Figures", "kill", "race"]

_REPO = "admin/shaken"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["killed_pushers", "huggingface_hub", "huggingface_hub.hf_api"])
os.environ.update(
    HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_UPDATE_CHECK="1"
)


@dataclass
class Figures:
    """What happened in all trials."""

    trials: int = 0
    hub_kills: int = 0
    client_kills: int = 0
    xet_trials: int = 0
    acknowledged_commits: int = 0
    kills_before_first_commit: int = 0
    files_downloaded: int = 0
    problems: list[str] = field(default_factory=list)


def kill(home: Path, trials: int, seed: int) -> Figures:
    """Run the trials on one hub; its history grows from trial to trial."""
    found, draw, token = Figures(), random.Random(seed), ""
    told: list[str] = []
    number = 0
    while number < trials:
        with started_hub(home, "--rate", "0") as hub:
            token = hub.admin_token or token
            _download_all(hub, token, found)
            while number < trials:
                kills_hub = number % 2 == 0
                told += _trial(hub, token, draw, number, found)
                number += 1
                if kills_hub:
                    break
                found.problems += _wrong_with(home, told)
                _download_all(hub, token, found)
        found.problems += _wrong_with(home, told)
    return found


def _trial(hub: RunningHub, token: str, draw: random.Random, number: int, found: Figures) -> list[str]:
    answers = _CONTEXT.SimpleQueue()
    uses_xet = draw.random() < 0.5
    client = _CONTEXT.Process(
        target=_push_for_ever, args=(hub.url, token, draw.random(), uses_xet, answers), daemon=True
    )
    client.start()
    answers.get()  # it begins
    time.sleep(draw.uniform(0.0, 0.8))
    if number % 2 == 0:
        hub.process.kill()
        hub.process.wait()
        found.hub_kills += 1
    else:
        found.client_kills += 1
    client.kill()
    client.join()
    told = []
    while not answers.empty():
        told.append(answers.get())
    found.trials, found.xet_trials = found.trials + 1, found.xet_trials + uses_xet
    found.acknowledged_commits += len(told)
    found.kills_before_first_commit += not told
    return told


def _push_for_ever(url: str, token: str, seed: float, uses_xet: bool, answers: Any) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    constants.HF_HUB_DISABLE_XET = not uses_xet
    api, draw = HfApi(endpoint=url, token=token), random.Random(seed)
    answers.put("begins")
    api.create_repo(_REPO, exist_ok=True)
    while True:
        files = {
            f"{draw.randrange(4)}.bin": draw.randbytes(draw.choice((10, 300_000, 3_000_000)))
            for _ in range(2)
        }
        changes = [CommitOperationAdd(name, content) for name, content in files.items()]
        answers.put(api.create_commit(_REPO, changes, commit_message=f"{len(files)} files").oid)


def _wrong_with(home: Path, told: list[str]) -> list[str]:
    """What a look at the registry finds: lost commits, and all that `check` knows of."""
    with contextlib.closing(Registry(RegistryConfig(home / "hub"))) as registry:
        who = registry.accounts.identity("admin")
        try:
            repo = registry.repos.get(who, RepoName.parse("model", _REPO))
        except NotFoundError:
            if told:
                raise
            return []
        made = {commit.oid for commit in _log(registry, repo)}
        lost = [f"commit {oid} was acknowledged and is lost" for oid in told if oid not in made]
        return lost + [f"{each.kind} {each.what}: {each.problem}" for each in check(registry).problems]


def _download_all(hub: RunningHub, token: str, found: Figures) -> None:
    """Every file that is listed must come down whole."""
    answer = hub.get(f"/api/models/{_REPO}/tree/main?recursive=true", token)
    if answer.status_code == 404:  # before its first commit
        return
    for entry in answer.raise_for_status().json():
        content = hub.get(f"/{_REPO}/resolve/main/{entry['path']}", token, follow_redirects=True).content
        digest = sha256_bytes(content).removeprefix("sha256:") if "lfs" in entry else blob_oid(content)
        if digest != (entry["lfs"] if "lfs" in entry else entry)["oid"]:
            found.problems.append(f"{entry['path']} comes down as {digest}")
        found.files_downloaded += 1


def _log(registry: Registry, repo: Any) -> list[Commit]:
    try:
        return registry.history.log(repo, limit=1_000_000)
    except NotFoundError:
        if registry.history.refs(repo):
            raise
        return []


def race(hub: RunningHub, token: str, rounds: int) -> list[tuple[int, int]]:
    """Two processes commit onto the same parent; for each round how many won and how many had a clear conflict."""
    answers, together = _CONTEXT.SimpleQueue(), _CONTEXT.Barrier(2)
    workers = [
        _CONTEXT.Process(target=_race, args=(hub.url, token, name, rounds, together, answers), daemon=True)
        for name in ("left", "right")
    ]
    for worker in workers:
        worker.start()
    outcomes = [answers.get() for _ in range(2 * rounds)]
    for worker in workers:
        worker.join()
    per_round: dict[int, list[str]] = {}
    for number, outcome in outcomes:
        per_round.setdefault(number, []).append(outcome)
    return [(each.count("won"), each.count("conflict")) for _, each in sorted(per_round.items())]


def _race(url: str, token: str, name: str, rounds: int, together: Any, answers: Any) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    constants.HF_HUB_DISABLE_XET = True
    api = HfApi(endpoint=url, token=token)
    for number in range(rounds):
        together.wait(30)
        parent = api.model_info("admin/raced").sha
        together.wait(30)
        change = [CommitOperationAdd(f"{number}.txt", f"{name} {number}".encode())]
        try:
            api.create_commit("admin/raced", change, commit_message=name, parent_commit=parent)
            answers.put((number, "won"))
        except HfHubHTTPError as error:
            answers.put((number, "conflict" if error.response.status_code in {409, 412} else str(error)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        figures = kill(
            Path(folder), int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
        )
    print(json.dumps(asdict(figures)))
