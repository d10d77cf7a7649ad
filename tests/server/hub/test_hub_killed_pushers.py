"""The real clients of Hugging Face beside a hub, by LFS and by Xet: either is killed, and two push at once."""

from __future__ import annotations

from pathlib import Path

from killed_pushers import kill, race
from pushing import make_repo
from running_hub import RunningHub


def test_nothing_acknowledged_is_lost_and_nothing_is_half(tmp_path: Path) -> None:
    figures = kill(tmp_path, 8, seed=5)
    assert figures.problems == []
    assert (figures.hub_kills, figures.client_kills) == (4, 4)
    assert figures.acknowledged_commits and figures.files_downloaded and 0 < figures.xet_trials < 8


def test_of_two_pushers_one_wins(running_hub: RunningHub) -> None:
    make_repo(running_hub, running_hub.admin_token, "admin/raced")
    assert race(running_hub, running_hub.admin_token, 20) == [(1, 1)] * 20
