"""Hubs that lie, and tokens that stay where they belong."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from pulling import FILE, digest_of_bytes, pull_tiny
from small_hub import SmallHub, running

from nomoat.base.errors import InputError
from nomoat.share.client.download import Transfer
from nomoat.share.client.references import parse_hub
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.tokens import Tokens
from nomoat.share.errors import RefusedError
from nomoat.store.store import Store

TOKEN = "hf_" + "a" * 37


class Lie(NamedTuple):
    what: str
    announced: dict[str, Any]


@pytest.mark.parametrize(
    "lie",
    [
        Lie("not those", {"lfs": {"oid": "0" * 64, "size": 20_480_320, "pointerSize": 1}}),
        Lie("was said to have", {"lfs": {"oid": "0" * 64, "size": 10_000_000, "pointerSize": 1}}),
        Lie("describes no file", {"lfs": {"oid": "xyz", "size": 5, "pointerSize": 1}}),
        Lie("describes no file", {"oid": "../../etc"}),
        Lie("describes no file", {"lfs": {"oid": "0" * 64, "size": -5, "pointerSize": 1}}),
    ],
    ids=lambda lie: lie.what,
)
def test_a_lie_in_the_list_is_found_out(hub: SmallHub, store: Store, gguf_bytes: bytes, lie: Lie) -> None:
    announced = dict(lie.announced)
    if announced.get("lfs", {}).get("size") == 20_480_320:
        announced["lfs"]["size"] = len(gguf_bytes)
    hub.announced[FILE] = announced
    with pytest.raises(RefusedError, match=lie.what):
        pull_tiny(hub, store)
    assert not store.list() and not list((store.home / "downloads").glob("*/data"))[1:]


def test_a_path_that_leads_out_is_refused(store: Store) -> None:
    with running(SmallHub({"me/x": {"../evil.gguf": b"GGUF"}})) as hub:
        with pytest.raises(InputError, match="cannot be a file's path"):
            pull_tiny(hub, store, "me/x")


@pytest.mark.parametrize("part", ["other bytes", "another range", "too much", "compressed"])
def test_a_lie_in_the_bytes_is_found_out(hub: SmallHub, store: Store, gguf_bytes: bytes, part: str) -> None:
    def lie(handler: Any) -> bool:
        if "/resolve/" not in handler.path:
            return False
        start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        body = bytearray(gguf_bytes[start : end + 1])
        headers = {"Content_Range": f"bytes {start}-{end}/{len(gguf_bytes)}"}
        if part == "other bytes":
            body[len(body) // 2] ^= 1
        elif part == "another range":
            headers["Content_Range"] = f"bytes {start + 1}-{end}/{len(gguf_bytes)}"
        elif part == "too much":
            body += b"more"
        else:
            headers["Content_Encoding"] = "gzip"
        handler.send(bytes(body), 206, **headers)
        return True

    hub.before = lie
    with pytest.raises(RefusedError):
        pull_tiny(hub, store)
    assert not store.list()
    hub.before = lambda handler: False
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)  # nothing of the lie was kept


def test_a_file_that_stays_cut_short_is_no_model(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hub.announced[FILE] = {"lfs": {"oid": "0" * 64, "size": len(gguf_bytes) + 5, "pointerSize": 1}}
    with pytest.raises((RefusedError, UnreachableError)):
        pull_tiny(hub, store)
    assert not store.list()


def test_a_token_goes_to_its_hub_and_nowhere_else(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    Tokens(store.home).keep(hub.host, TOKEN)
    with running(SmallHub({"me/Tiny-GGUF": {FILE: gguf_bytes}})) as elsewhere:

        def redirect(handler: Any) -> bool:
            if "/resolve/" in handler.path:
                handler.send(b"", 302, Location=f"{elsewhere.url}{handler.path}")
            return "/resolve/" in handler.path

        hub.before = redirect
        assert pull_tiny(hub, store, transfer=Transfer(1)).digest == digest_of_bytes(gguf_bytes)
        assert hub.seen and all(seen.headers["Authorization"] == f"Bearer {TOKEN}" for seen in hub.seen)
        assert elsewhere.seen and not any("Authorization" in seen.headers for seen in elsewhere.seen)
        assert len(elsewhere.requests("/resolve/")) > len(hub.requests("/resolve/")), (
            "the address was not kept"
        )


def test_another_hub_never_sees_the_token(hub: SmallHub, store: Store) -> None:
    Tokens(store.home).keep("hub.example.org", TOKEN)
    pull_tiny(hub, store)
    assert not any("Authorization" in seen.headers for seen in hub.seen)


def test_redirects_end_and_stay_with_http(hub: SmallHub, store: Store) -> None:
    for target in ("/api/models/me/Tiny-GGUF/revision/main", "file:///etc/passwd", "ftp://127.0.0.1/x"):

        def redirect(handler: Any, target: str = target) -> bool:
            handler.send(b"", 302, Location=target)
            return True

        hub.before = redirect
        with pytest.raises(Exception, match="redirects"):
            pull_tiny(hub, store)


def test_a_token_is_private(store: Store) -> None:
    tokens = Tokens(store.home)
    tokens.keep("hub.local", TOKEN)
    assert (store.home / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert tokens.find(parse_hub("hub.local")) == TOKEN and tokens.hosts() == ["hub.local"]
    assert tokens.forget("hub.local") and not tokens.forget("hub.local")
