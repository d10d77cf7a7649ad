"""`nomoat hub serve|user|token`: starting, finding, ending a hub, and its people."""

from __future__ import annotations

import signal
from pathlib import Path

from running_hub import RunningHub, started_hub

from nomoat.base.server_records import read_records


def test_a_hub_starts_says_so_and_ends_in_good_order(tmp_path: Path) -> None:
    with started_hub(tmp_path) as first:
        assert first.admin_token.startswith("hf_") and len(first.admin_token) > 36
        assert first.get("/health").json()["status"] == "ok"
        assert first.get("/api/whoami-v2", first.admin_token).json()["name"] == "admin"
        assert [record.url for record in read_records(tmp_path)] == [first.url]
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(30) == 0
        assert read_records(tmp_path) == []
    with started_hub(tmp_path) as second:
        assert second.admin_token == ""  # it was shown, and nobody can see it again
        assert second.get("/api/whoami-v2", first.admin_token).status_code == 200
    assert (tmp_path / "hub.log").read_text() == ""
    database = b"".join(path.read_bytes() for path in (tmp_path / "hub").glob("hub.db*"))
    assert first.admin_token.encode() not in database  # only its hash is kept


def test_people_and_tokens_come_and_go(running_hub: RunningHub) -> None:
    added = running_hub.verb("user", "add", "carol", "--full-name", "Carol C.")
    assert added["name"] == "carol" and added["kind"] == "user" and not added["is_admin"]
    assert running_hub.verb("user", "add", "Carol")["error"]["code"] == "conflict"
    assert running_hub.verb("user", "add", "models")["error"]["code"] == "bad_input"
    assert "carol" in [user["name"] for user in running_hub.verb("user", "list")["users"]]
    token = running_hub.verb("token", "add", "carol", "--label", "laptop", "--scope", "write")["token"]
    [listed] = running_hub.verb("token", "list", "carol")["tokens"]
    assert listed["label"] == "laptop" and listed["scope"] == "write" and token not in str(listed)
    assert running_hub.get("/api/whoami-v2", token).json()["auth"]["accessToken"]["displayName"] == "laptop"
    running_hub.verb("token", "revoke", "carol", str(listed["id"]))
    assert running_hub.get("/api/whoami-v2", token).status_code == 401


def test_an_organisation_lets_its_members_write(running_hub: RunningHub, alice: str, bob: str) -> None:
    running_hub.verb("user", "add", "poets", "--org", "--member", "alice=write", "--member", "bob=read")
    body = {"name": "odes", "organization": "poets"}
    assert running_hub.post("/api/repos/create", body, bob).status_code == 403
    assert running_hub.post("/api/repos/create", body | {"private": True}, alice).status_code == 200
    assert running_hub.get("/api/models/poets/odes", bob).status_code == 200
    assert running_hub.get("/api/models/poets/odes").status_code == 401
    assert running_hub.get("/api/whoami-v2", bob).json()["orgs"][0]["name"] == "poets"


def test_a_folder_without_a_hub_is_named(running_hub: RunningHub, tmp_path: Path) -> None:
    nowhere = RunningHub(running_hub.url, running_hub.process, tmp_path, "")
    assert nowhere.verb("user", "list")["error"]["code"] == "not_found"
