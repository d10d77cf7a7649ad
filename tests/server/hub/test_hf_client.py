"""The Python client of Hugging Face, unmodified and without Xet, against a real hub."""

from __future__ import annotations

import pytest
from running_hub import RunningHub

SCRIPTS = ["push_and_pull", "trees_and_paths", "commits_and_conflicts", "branches_tags_moves", "list_and_search",
           "people", "access", "errors", "resume"]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_client_works_as_with_its_own_hub(
    running_hub: RunningHub, alice: str, bob: str, script: str
) -> None:
    running_hub.run_client("hf_scripts", script, alice, BOB=bob)
