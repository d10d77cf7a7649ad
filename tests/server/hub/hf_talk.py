"""How a client of Hugging Face reads discussions, in a process of its own."""

from __future__ import annotations

from hf_scripts import fails
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


def discussions() -> None:
    """Two of them, which the test has put there."""
    api = HfApi()
    found = list(api.get_repo_discussions("alice/talked-of"))
    assert [(each.num, each.title, each.status, each.author) for each in found] == [
        (2, "Thanks", "closed", "bob"), (1, "What is it?", "open", "alice")]  # fmt: skip
    assert [each.num for each in api.get_repo_discussions("alice/talked-of", discussion_status="closed")] == [
        2
    ]
    details = api.get_discussion_details("alice/talked-of", 1)
    assert [(event.author, event.content) for event in details.events] == [
        ("alice", "Tell me."),
        ("bob", "A *test*."),
    ]
    fails(HfHubHTTPError, api.get_discussion_details, "alice/talked-of", 3)
