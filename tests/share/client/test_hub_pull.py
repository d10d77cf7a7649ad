"""Pulling from a hub that behaves, and from one that does not."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
from small_hub import SmallHub, running

from nomoat.base.errors import DiskFullError, InputError, NotFoundError
from nomoat.base.progress import Silent
from nomoat.formats.gguf_file import read_gguf
from nomoat.share.client import connection as connection_module
from nomoat.share.client.download import Transfer
from nomoat.share.client.files import fetch_folder
from nomoat.share.client.partial import PIECE_BYTES
from nomoat.share.client.pull import Puller, PullOptions
from nomoat.share.client.pulled import Pulled, PulledNames
from nomoat.share.client.references import parse_hub, parse_reference
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.tokens import Tokens
from nomoat.share.errors import ConflictError, ForbiddenError, RefusedError, UnauthorizedError
from nomoat.store.store import Store

FILE = "Tiny-Q4_K_M.gguf"
TOKEN = "hf_" + "a" * 37


@pytest.fixture
def hub(gguf_bytes: bytes) -> Iterator[SmallHub]:
    with running(SmallHub({"me/Tiny-GGUF": {FILE: gguf_bytes, "README.md": b"# Tiny\n"}})) as served:
        yield served


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_FIRST_WAIT_SECONDS", 0.001)


def _pull(hub: SmallHub, store: Store, name: str = "me/Tiny-GGUF", **options: Any) -> Pulled:
    with Puller(store, Silent()) as puller:
        reference = parse_reference(f"{hub.host}/{name}")
        return puller.pull(puller.plan(reference, PullOptions(**options)))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_model_arrives_whole_and_under_a_name(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    pulled = _pull(hub, store)
    assert (pulled.kind, pulled.name, pulled.digest) == ("model", "tiny:q4_k_m", _digest(gguf_bytes))
    model = store.resolve("tiny:q4_k_m")
    assert model.path.read_bytes() == gguf_bytes
    assert model.source == f"{hub.host}/me/Tiny-GGUF:Q4_K_M"
    assert not list((store.home / "downloads").iterdir())
    for name in ("me/Tiny-GGUF", "ME/tiny-gguf:q4_k_m"):
        assert PulledNames(store).find(parse_reference(f"{hub.host}/{name}")) == pulled


def test_what_is_here_is_not_fetched_again(hub: SmallHub, store: Store) -> None:
    _pull(hub, store)
    hub.seen.clear()
    again = _pull(hub, store)
    assert again.name == "tiny:q4_k_m" and not hub.requests("/resolve/")


def test_a_forgotten_model_is_no_longer_known(hub: SmallHub, store: Store) -> None:
    pulled = _pull(hub, store)
    store.remove(pulled.name)
    assert PulledNames(store).find(parse_reference(f"{hub.host}/me/Tiny-GGUF")) is None


def test_another_models_name_is_not_taken(
    hub: SmallHub, store: Store, tmp_path: Path, gguf_bytes: bytes
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf_bytes[:-4] + b"\1\2\3\4")
    store.import_file(other, "tiny:q4_k_m")
    with pytest.raises(InputError, match="another model"):
        _pull(hub, store)
    assert not hub.requests("/resolve/")
    _pull(hub, store, replace_existing=True)
    assert store.resolve("tiny:q4_k_m").digest == _digest(gguf_bytes)


def test_a_newer_version_takes_the_name_of_the_older_one(
    hub: SmallHub, store: Store, gguf_bytes: bytes
) -> None:
    first = _pull(hub, store)
    newer = gguf_bytes[:-4] + b"\1\2\3\4"
    hub.repos["me/Tiny-GGUF"][FILE] = newer
    second = _pull(hub, store)
    assert second.name == first.name and store.resolve(second.name).digest == _digest(newer)


def test_a_broken_connection_is_taken_up_where_it_broke(
    hub: SmallHub, store: Store, gguf_bytes: bytes
) -> None:
    breaks = iter(range(5))

    def cut(handler: Any) -> bool:
        if "/resolve/" not in handler.path or next(breaks, None) is None:
            return False
        start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{end}/{len(gguf_bytes)}")
        handler.send_header("Content-Length", str(end + 1 - start))
        handler.end_headers()
        handler.wfile.write(gguf_bytes[start : start + 1_000_000])
        handler.wfile.flush()
        handler.connection.shutdown(2)
        handler.close_connection = True
        return True

    hub.before = cut
    assert _pull(hub, store).digest == _digest(gguf_bytes)
    starts = {int(seen.headers["Range"][6:].split("-")[0]) for seen in hub.requests("/resolve/")}
    assert any(start % PIECE_BYTES for start in starts), "no part was continued"


def _only_the_first_part(hub: SmallHub) -> None:
    """The other parts are refused."""

    def refuse(handler: Any) -> bool:
        started = handler.headers.get("Range", "").startswith("bytes=0-")
        if "/resolve/" in handler.path and not started:
            handler.json({"error": "not now"}, 403)
            return True
        return False

    hub.before = refuse


def test_what_arrived_is_not_fetched_again(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    _only_the_first_part(hub)
    with pytest.raises(ForbiddenError):
        _pull(hub, store, transfer=Transfer(1))
    hub.before = lambda handler: False
    hub.seen.clear()
    assert _pull(hub, store).digest == _digest(gguf_bytes)
    starts = sorted(int(seen.headers["Range"][6:].split("-")[0]) for seen in hub.requests("/resolve/"))
    assert starts == [PIECE_BYTES, 2 * PIECE_BYTES]


@pytest.mark.parametrize("damage", ["data", "journal", "a torn line", "data gone"])
def test_what_a_power_cut_damaged_is_fetched_again(
    hub: SmallHub, store: Store, gguf_bytes: bytes, damage: str
) -> None:
    _only_the_first_part(hub)
    with pytest.raises(ForbiddenError):
        _pull(hub, store, transfer=Transfer(1))
    hub.before = lambda handler: False
    (folder,) = (store.home / "downloads").iterdir()
    data, journal = folder / "data", folder / "journal"
    if damage == "data":
        content = bytearray(data.read_bytes())
        content[1000] ^= 1
        data.write_bytes(content)
    elif damage == "journal":
        journal.write_bytes(b"\0" * 100)
    elif damage == "a torn line":
        journal.write_text(journal.read_text() + "1 abc")
    else:
        data.unlink()
    assert _pull(hub, store).digest == _digest(gguf_bytes)


def test_a_busy_hub_is_asked_again(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    refusals = iter([503, 429, 500, 502])

    def busy(handler: Any) -> bool:
        status = next(refusals, None)
        if status is not None:
            handler.json({"error": "busy"}, status)
        return status is not None

    hub.before = busy
    assert _pull(hub, store).digest == _digest(gguf_bytes)


def test_a_hub_without_ranges_is_enough(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hub.ranges = False
    assert _pull(hub, store).digest == _digest(gguf_bytes)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1])
@pytest.mark.parametrize("ranges", [True, False])
def test_every_length_arrives(tmp_path: Path, size: int, ranges: bool) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    with running(SmallHub({"me/x": {"a/b.bin": content[:size]}}, ranges=ranges)) as hub:
        store = Store(tmp_path / "home")
        with Puller(store) as puller:
            fetch_folder(puller, parse_reference(f"{hub.host}/me/x"), tmp_path / "out", Transfer())
    assert (tmp_path / "out" / "a" / "b.bin").read_bytes() == content[:size]


def test_the_same_bytes_under_two_names_come_once(tmp_path: Path) -> None:
    with running(
        SmallHub({"me/x": {"a.txt": b"same", "b/c.txt": b"same", "empty": b"", "void": b""}})
    ) as hub:
        with Puller(Store(tmp_path / "home")) as puller:
            fetch_folder(puller, parse_reference(f"{hub.host}/me/x"), tmp_path / "out", Transfer())
        assert len(hub.requests("/resolve/")) == 1
    assert (
        (tmp_path / "out" / "b" / "c.txt").read_bytes()
        == (tmp_path / "out" / "a.txt").read_bytes()
        == b"same"
    )
    assert (tmp_path / "out" / "void").read_bytes() == b""


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
        _pull(hub, store)
    assert not store.list() and not list((store.home / "downloads").glob("*/data"))[1:]


def test_a_path_that_leads_out_is_refused(store: Store) -> None:
    with running(SmallHub({"me/x": {"../evil.gguf": b"GGUF"}})) as hub:
        with pytest.raises(InputError, match="cannot be a file's path"):
            _pull(hub, store, "me/x")


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
        _pull(hub, store)
    assert not store.list()
    hub.before = lambda handler: False
    assert _pull(hub, store).digest == _digest(gguf_bytes)  # nothing of the lie was kept


def test_a_file_that_stays_cut_short_is_no_model(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hub.announced[FILE] = {"lfs": {"oid": "0" * 64, "size": len(gguf_bytes) + 5, "pointerSize": 1}}
    with pytest.raises((RefusedError, UnreachableError)):
        _pull(hub, store)
    assert not store.list()


def test_a_token_goes_to_its_hub_and_nowhere_else(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    Tokens(store.home).keep(hub.host, TOKEN)
    with running(SmallHub({"me/Tiny-GGUF": {FILE: gguf_bytes}})) as elsewhere:

        def redirect(handler: Any) -> bool:
            if "/resolve/" in handler.path:
                handler.send(b"", 302, Location=f"{elsewhere.url}{handler.path}")
            return "/resolve/" in handler.path

        hub.before = redirect
        assert _pull(hub, store, transfer=Transfer(1)).digest == _digest(gguf_bytes)
        assert hub.seen and all(seen.headers["Authorization"] == f"Bearer {TOKEN}" for seen in hub.seen)
        assert elsewhere.seen and not any("Authorization" in seen.headers for seen in elsewhere.seen)
        assert len(elsewhere.requests("/resolve/")) > len(hub.requests("/resolve/")), (
            "the address was not kept"
        )


def test_another_hub_never_sees_the_token(hub: SmallHub, store: Store) -> None:
    Tokens(store.home).keep("hub.example.org", TOKEN)
    _pull(hub, store)
    assert not any("Authorization" in seen.headers for seen in hub.seen)


def test_redirects_end_and_stay_with_http(hub: SmallHub, store: Store) -> None:
    for target in ("/api/models/me/Tiny-GGUF/revision/main", "file:///etc/passwd", "ftp://127.0.0.1/x"):

        def redirect(handler: Any, target: str = target) -> bool:
            handler.send(b"", 302, Location=target)
            return True

        hub.before = redirect
        with pytest.raises(Exception, match="redirects"):
            _pull(hub, store)


def test_a_refusal_says_what_to_do(hub: SmallHub, store: Store) -> None:
    with pytest.raises(NotFoundError, match="not found") as missing:
        _pull(hub, store, "me/none")
    assert f"nomoat login {hub.host}" in missing.value.hint

    def refuse(handler: Any) -> bool:
        handler.json({"error": "who are you?\x1b[31m"}, 401)
        return True

    hub.before = refuse
    with pytest.raises(UnauthorizedError) as refused:
        _pull(hub, store)
    assert refused.value.hint == f"nomoat login {hub.host}"
    assert "\x1b" not in refused.value.message


def test_a_full_disk_is_noticed_before(hub: SmallHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(DiskFullError, match="are free"):
        _pull(hub, store)
    assert not hub.requests("/resolve/")


def test_two_at_once_do_not_disturb_each_other(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hold, waiting = threading.Event(), threading.Event()

    def slow(handler: Any) -> bool:
        if "/resolve/" in handler.path:
            waiting.set()
            hold.wait(10)
        return False

    hub.before = slow
    first = threading.Thread(target=_pull, args=(hub, store))
    first.start()
    assert waiting.wait(10)
    try:
        with pytest.raises(ConflictError, match="another nomoat"):
            _pull(hub, store)
    finally:
        hold.set()
        first.join()
    assert store.resolve("tiny:q4_k_m").digest == _digest(gguf_bytes)


def test_a_limit_is_kept(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    began = time.monotonic()
    _pull(hub, store, transfer=Transfer(4, 15e6))
    assert time.monotonic() - began > len(gguf_bytes) / 15e6 * 0.7


def test_a_tag_may_stand_where_a_quantisation_does(hub: SmallHub, store: Store) -> None:
    hub.tags = ("v2",)
    assert _pull(hub, store, "me/Tiny-GGUF:v2").name == "tiny:q4_k_m"
    with pytest.raises(NotFoundError, match="no 'v3'; there are: Q4_K_M"):
        _pull(hub, store, "me/Tiny-GGUF:v3")


def test_a_token_is_private(store: Store) -> None:
    tokens = Tokens(store.home)
    tokens.keep("hub.local", TOKEN)
    assert (store.home / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert tokens.find(parse_hub("hub.local")) == TOKEN and tokens.hosts() == ["hub.local"]
    assert tokens.forget("hub.local") and not tokens.forget("hub.local")


def test_parts_become_one_model(store: Store, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m-Q8_0.gguf", "qwen2", split_max_tensors=2)
    for number in range(5):
        writer.add_tensor(f"blk.{number}.w", np.full((4, 32), number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files = {f"q8/{path.name}": path.read_bytes() for path in tmp_path.glob("m-*.gguf")}
    assert len(files) == 3
    with running(SmallHub({"me/parts": files})) as hub:
        pulled = _pull(hub, store, "me/parts:Q8_0")
        assert pulled.name == "parts:q8_0"
        assert len(read_gguf(store.resolve(pulled.name).path).tensors) == 5
        assert not list((store.home / "downloads").iterdir())
        hub.seen.clear()
        assert _pull(hub, store, "me/parts").digest == pulled.digest and not hub.requests("/resolve/")
