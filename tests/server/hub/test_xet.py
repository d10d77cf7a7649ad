"""Xet with the real client, and with one that lies."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import lz4.frame
import pytest
from running_hub import RunningHub, started_hub

from nomoat.share.xet.hashes import Chunk, chunk_hash, to_text, xorb_hash
from nomoat.share.xet.shard import _END, _ENTRY, _HEADER, _TAG, _VERIFIED


@pytest.fixture(scope="module")
def xenia(running_hub: RunningHub) -> str:
    return running_hub.user("xenia")


def xorb_bytes_sent(hub: RunningHub) -> int:
    """Unpacked bytes of all xorbs that ever came."""
    with sqlite3.connect(hub.root / "hub.db") as database:
        tables = [row[0] for row in database.execute("select chunks from xet_xorbs")]
    return sum(size for table in tables for _, size in struct.iter_unpack("<32sI", table))


def run(hub: RunningHub, function: str, token: str, **more: str) -> str:
    on = {"HF_HUB_DISABLE_XET": "0", "HF_XET_TELEMETRY_ENABLED": "0"}
    return hub.run_client("xet_scripts", function, token, **{**on, **more})


# Another client finds the known chunks when it asks for one of 1,024, some way into the file.
@pytest.mark.parametrize(("client", "share"), [("the same", 0.01), ("another", 0.5)])
def test_a_changed_header_costs_little(
    running_hub: RunningHub, xenia: str, tmp_path: Path, client: str, share: float
) -> None:
    size = 64 << 20
    assert run(running_hub, "push", xenia).split()[-1] == "True"
    before = xorb_bytes_sent(running_hub)
    elsewhere = {"HF_HOME": str(tmp_path)} if client == "another" else {}
    assert run(running_hub, "push", xenia, HEADER=f"from {client} client", **elsewhere).split()[-1] == "True"
    assert 0 < xorb_bytes_sent(running_hub) - before < size * share


def test_what_came_by_lfs_is_known_to_who_comes_by_xet(
    running_hub: RunningHub, xenia: str, tmp_path: Path
) -> None:
    here = {"REPO": "xenia/both", "SEED": "16"}  # clients ask for a chunk in the middle of it
    assert run(running_hub, "push", xenia, HF_HUB_DISABLE_XET="1", **here).split()[-1] == "True"
    before, size = xorb_bytes_sent(running_hub), 64 << 20
    assert (
        run(running_hub, "push", xenia, HEADER="changed", HF_HOME=str(tmp_path), **here).split()[-1] == "True"
    )
    sent = xorb_bytes_sent(running_hub) - before - size  # the older version's chunks are known now
    assert 0 < sent < size * 0.55


def scope(hub: RunningHub, *, put_back: str = "") -> str:
    """The name of the only address in use."""
    with sqlite3.connect(hub.root / "hub.db") as database:
        if put_back:
            database.execute("update properties set value = ? where name like 'xet_scope/%'", [put_back])
        return str(
            database.execute("select value from properties where name like 'xet_scope/%'").fetchone()[0]
        )


def test_what_was_cleared_away_is_sent_again(tmp_path: Path) -> None:
    """Clients remember for weeks what they sent, and do not send it again."""
    with started_hub(tmp_path, "--rate", "0") as own_hub:
        _push_what_was_cleared_away(own_hub, own_hub.user("zoe"))


def _push_what_was_cleared_away(own_hub: RunningHub, token: str) -> None:
    here = {"REPO": "zoe/again", "BYTES": "3000000"}
    for _ in range(2):
        assert run(own_hub, "push", token, **here).split()[-1] == "True"
        known = scope(own_hub)
        assert own_hub.request("DELETE", "/api/repos/delete", token, json={"name": "again"}).is_success
        assert own_hub.verb("gc", "--grace", "0")["blobs"]
    # A hub that was restored from a backup has the address of that time: then one push fails, and no more.
    assert run(own_hub, "push", token, **{**here, "SEED": "8"}).split()[-1] == "True"
    scope(own_hub, put_back=known)
    with pytest.raises(AssertionError, match="422"):
        run(own_hub, "push", token, **here)
    assert run(own_hub, "push", token, **here).split()[-1] == "True"


def test_what_was_refused_is_refused_for_its_reason_again(running_hub: RunningHub, xenia: str) -> None:
    for _ in range(2):
        assert "pickle" in run(running_hub, "push_a_pickle", xenia)


def test_two_accounts_share_a_machine(running_hub: RunningHub, xenia: str) -> None:
    here = {"BYTES": "3000000", "SEED": "9"}
    assert run(running_hub, "push", xenia, REPO="xenia/hidden", PRIVATE="1", **here).split()[-1] == "True"
    token = running_hub.user("zach")
    assert run(running_hub, "push", token, REPO="zach/hidden", PRIVATE="1", **here).split()[-1] == "True"


def test_files_of_all_sizes_arrive(running_hub: RunningHub, xenia: str) -> None:
    assert run(running_hub, "push_a_folder", xenia).split()[-2:] == ["True", "8"]


def packed(content: bytes, scheme: int = 0, size: int | None = None) -> bytes:
    """A chunk as a xorb holds it."""
    header = bytes([0]) + len(content).to_bytes(3, "little") + bytes([scheme])
    return header + (len(content) if size is None else size).to_bytes(3, "little") + content


class Liar:
    """A client that has a token and sends what it likes."""

    def __init__(self, hub: RunningHub, token: str, repo: str) -> None:
        hub.post("/api/repos/create", {"name": repo.partition("/")[2], "type": "model"}, token)
        answer = hub.get(f"/api/models/{repo}/xet-write-token/main", token)
        self.hub, self.token = hub, answer.json()["accessToken"]
        self.address = answer.headers["X-Xet-Cas-Url"].removeprefix(hub.url)
        assert answer.json()["casUrl"] == hub.url + self.address

    def xorb(self, content: bytes, hash: bytes) -> int:
        path = f"{self.address}/v1/xorbs/default/{to_text(hash)}"
        return self.hub.request("POST", path, self.token, content=content).status_code

    def shard(self, content: bytes) -> tuple[int, str]:
        answer = self.hub.request("POST", f"{self.address}/v1/shards", self.token, content=content)
        return answer.status_code, answer.text


@pytest.fixture
def liar(running_hub: RunningHub, xenia: str) -> Liar:
    return Liar(running_hub, xenia, "xenia/lies")


def hash_of(*contents: bytes) -> bytes:
    return xorb_hash([Chunk(chunk_hash(content), len(content)) for content in contents])


def blobs_of(hub: RunningHub) -> set[str]:
    return {path.name for path in (hub.root / "blobs").rglob("*") if path.is_file()}


def test_a_xorb_that_is_not_what_it_says_leaves_nothing(running_hub: RunningHub, liar: Liar) -> None:
    content = b"x" * 20_000
    right = hash_of(content)
    bomb = lz4.frame.compress(bytes(300_000_000))
    before = blobs_of(running_hub)
    for sent in (
        packed(b"y" * 20_000), packed(content, size=10_000), packed(content)[:-1], packed(content, scheme=7), b"",
        packed(bomb[:200_000], 1, 100_000), packed(b"no frame", 1, 20_000), b"\xff" * 40, packed(b"", size=0),
    ):  # fmt: skip
        assert liar.xorb(sent, right) in {400, 413, 422}, sent[:20]
    assert blobs_of(running_hub) == before
    assert liar.xorb(packed(content), right) == 200


def one_file_shard(xorb: bytes, parts: list[tuple[int, int, int]], *, flags: int = _VERIFIED) -> bytes:
    rows = [_ENTRY.pack(xorb, 0, size, start, end) for size, start, end in parts]
    proofs = [_ENTRY.pack(bytes(32), 0, 0, 0, 0) for _ in parts]
    head = _HEADER.pack(_TAG, 2, 0) + _ENTRY.pack(b"f" * 32, flags, len(parts), 0, 0)
    return head + b"".join(rows + proofs) + _ENTRY.pack(_END, 0, 0, 0, 0) * 2


def test_a_shard_that_lies_makes_no_file(running_hub: RunningHub, liar: Liar) -> None:
    content = b"z" * 30_000
    xorb = hash_of(content)
    assert liar.xorb(packed(content), xorb) == 200
    before = blobs_of(running_hub)
    for sent, word in (
        (one_file_shard(xorb, [(30_000, 0, 2)]), "no chunks"),
        (one_file_shard(xorb, [(29_999, 0, 1)]), "another size"),
        (one_file_shard(xorb, [(30_000, 0, 1)]), "not proven"),
        (one_file_shard(b"u" * 32, [(30_000, 0, 1)]), "never sent"),
        (one_file_shard(xorb, [(30_000, 0, 1)], flags=0), "verification"),
        (one_file_shard(xorb, [(30_000, 0, 1)])[:100], "byte"),
        (b"nothing", "byte 0"),
    ):
        status, text = liar.shard(sent)
        assert status in {400, 422} and word in text, text
    assert blobs_of(running_hub) == before


def test_chunks_of_others_cannot_be_claimed_by_their_hash(running_hub: RunningHub, liar: Liar) -> None:
    content = b"private" * 4_000
    xorb = hash_of(content)
    assert liar.xorb(packed(content), xorb) == 200
    stranger = Liar(running_hub, running_hub.user("yara"), "yara/guess")
    status, text = stranger.shard(one_file_shard(xorb, [(28_000, 0, 1)]))
    assert status in {400, 422} and "never sent" in text
    path = f"{stranger.address}/v1/chunks/default/{to_text(chunk_hash(content))}"
    assert running_hub.get(path, stranger.token).status_code == 404


def test_only_a_token_for_sending_sends(running_hub: RunningHub, xenia: str, bob: str) -> None:
    running_hub.post("/api/repos/create", {"name": "mine", "type": "model"}, xenia)
    assert running_hub.get("/api/models/xenia/mine/xet-write-token/main", bob).status_code in {403, 404}
    for token in (xenia, None, "nonsense"):
        answer = running_hub.request("POST", "/v1/xet/0123456789abcdef/v1/shards", token, content=b"")
        assert answer.status_code in {401, 403}
