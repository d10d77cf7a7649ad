"""What the Python client of Hugging Face can do to a release: nothing. In a process of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hf_scripts import fails
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError


def releases() -> None:
    """The release v1.0 of alice/released was made before this."""
    api = HfApi()
    (tag,) = api.list_repo_refs("alice/released").tags
    assert tag.name == "v1.0" and api.model_info("alice/released").sha != tag.target_commit
    refused = fails(HfHubHTTPError, api.delete_tag, "alice/released", tag="v1.0")
    assert refused.response.status_code == 403
    assert "v1.0 of alice/released is a release: it stays as it is (make a new tag)" in str(refused)
    for create in (api.create_tag, api.create_branch):
        named = {"tag" if create == api.create_tag else "branch": "v1.0"}
        refused = fails(HfHubHTTPError, create, "alice/released", **named)
        assert refused.response.status_code == 409
        assert "v1.0 of alice/released is a release: it stays as it is" in str(refused)
        create("alice/released", exist_ok=True, **named)  # so this client skips what is there; nothing moves
    refused = fails(HfHubHTTPError, api.delete_repo, "alice/released")
    assert "alice/released has releases: v1.0" in str(refused)
    assert api.list_repo_refs("alice/released").tags == [tag]
    assert api.model_info("alice/released", revision="v1.0").sha == tag.target_commit
    got = hf_hub_download("alice/released", "notes.txt", revision="v1.0", cache_dir=tempfile.mkdtemp())
    assert Path(got).read_text() == "first"
