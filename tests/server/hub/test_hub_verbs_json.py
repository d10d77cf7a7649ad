"""`nomoat hub check|gc|backup|restore` as a script calls them."""

from __future__ import annotations

from pathlib import Path

from pushing import make_repo, push_large
from running_hub import started_hub


def test_a_hub_is_looked_after_while_it_works(tmp_path: Path) -> None:
    with started_hub(tmp_path, "--rate", "0") as hub:
        token = hub.admin_token
        for name in ("kept", "gone"):
            push_large(hub, token, make_repo(hub, token, f"admin/{name}"), "w.bin", name.encode() * 1000)
        deleted = {"name": "gone", "organization": "admin", "type": "model"}
        assert hub.request("DELETE", "/api/repos/delete", token, json=deleted).status_code == 200
        assert hub.verb("gc")["blobs"] == 0
        assert hub.verb("gc", "--grace", "0", "--dry-run")["blobs"] == 1
        assert hub.verb("gc", "--grace", "0")["bytes"] == 4000
        report = hub.verb("check", "--quick")
        # A new repository has a commit already, with the file .gitattributes.
        assert (report["quick"], report["blobs"], report["commits"], report["problems"]) == (True, 2, 2, [])
        assert hub.verb("backup", str(tmp_path / "backup"))["copied_blobs"] == 2
        assert hub.verb("restore", str(tmp_path / "backup"))["error"]["code"] == "bad_input"
    (tmp_path / "other").mkdir()
    hub.home = tmp_path / "other"
    assert hub.verb("restore", str(tmp_path / "backup"))["blobs"] == 2
    assert hub.verb("check")["problems"] == []
