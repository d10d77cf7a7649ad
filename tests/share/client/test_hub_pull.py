"""Pulling from a hub that behaves, and over lines that do not."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from pulling import FILE, digest_of_bytes, pull_tiny
from small_hub import SmallHub, running

from made_things import made_adapter
from nomoat.base.errors import DiskFullError, InputError, NotFoundError
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME
from nomoat.share.client.download import Transfer
from nomoat.share.client.files import fetch_folder
from nomoat.share.client.partial import PIECE_BYTES
from nomoat.share.client.pull import Puller, PullOptions
from nomoat.share.client.pulled import Pulled, PulledNames
from nomoat.share.client.references import parse_reference
from nomoat.share.errors import ConflictError, ForbiddenError, UnauthorizedError
from nomoat.store.store import Store


def test_a_model_arrives_whole_and_under_a_name(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    pulled = pull_tiny(hub, store)
    assert (pulled.kind, pulled.name, pulled.digest) == ("model", "tiny:q4_k_m", digest_of_bytes(gguf_bytes))
    model = store.resolve("tiny:q4_k_m")
    assert model.path.read_bytes() == gguf_bytes
    assert model.source == f"{hub.host}/me/Tiny-GGUF:Q4_K_M"
    assert not list((store.home / "downloads").iterdir())
    for name in ("me/Tiny-GGUF", "ME/tiny-gguf:q4_k_m"):
        assert PulledNames(store).find(parse_reference(f"{hub.host}/{name}")) == pulled


def test_what_is_here_is_not_fetched_again(hub: SmallHub, store: Store) -> None:
    pull_tiny(hub, store)
    hub.seen.clear()
    again = pull_tiny(hub, store)
    assert again.name == "tiny:q4_k_m" and not hub.requests("/resolve/")


def test_what_a_process_that_was_killed_at_the_very_end_left_is_swept(hub: SmallHub, store: Store) -> None:
    pulled = pull_tiny(hub, store)
    left = store.home / "downloads" / pulled.digest.removeprefix("sha256:")
    left.mkdir()
    (left / "journal").write_text("")
    pull_tiny(hub, store)
    assert not left.exists()


def test_a_forgotten_model_is_no_longer_known(hub: SmallHub, store: Store) -> None:
    pulled = pull_tiny(hub, store)
    store.remove(pulled.name)
    assert PulledNames(store).find(parse_reference(f"{hub.host}/me/Tiny-GGUF")) is None


def test_an_adapter_that_is_here_is_not_fetched_again(store: Store, tmp_path: Path) -> None:
    folder = made_adapter(tmp_path / "adapter", "sha256:" + "1" * 64)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS_NAME, CONFIG_NAME)}
    with running(SmallHub({"me/notes": files})) as hub, Puller(store) as puller:

        def pulled(name: str = "") -> Pulled:
            reference = parse_reference(f"{hub.host}/me/notes")
            return puller.pull(puller.plan(reference, PullOptions(name)))

        assert {pulled().kind, pulled("notes-2").kind} == {"adapter"}
        store.remove_adapter("notes-2")
        hub.seen.clear()
        assert (pulled().name, pulled().fetched_bytes) == ("notes", 0) and not hub.requests("/resolve/")
        files["README.md"] = b"# Notes"
        pulled()
        assert {seen.path.rpartition("/")[2] for seen in hub.requests("/resolve/")} == {"README.md"}


def test_a_name_that_stands_for_something_else_now_is_not_taken(
    hub: SmallHub, store: Store, tmp_path: Path, gguf_bytes: bytes
) -> None:
    store.remove(pull_tiny(hub, store).name)
    own = tmp_path / "own.gguf"
    own.write_bytes(gguf_bytes[:-4] + b"\1\2\3\4")
    store.import_file(own, "tiny:q4_k_m")
    with pytest.raises(InputError, match="another model"):
        pull_tiny(hub, store)


def test_another_models_name_is_not_taken(
    hub: SmallHub, store: Store, tmp_path: Path, gguf_bytes: bytes
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf_bytes[:-4] + b"\1\2\3\4")
    store.import_file(other, "tiny:q4_k_m")
    with pytest.raises(InputError, match="another model"):
        pull_tiny(hub, store)
    assert not hub.requests("/resolve/")
    pull_tiny(hub, store, replace_existing=True)
    assert store.resolve("tiny:q4_k_m").digest == digest_of_bytes(gguf_bytes)


def test_a_newer_version_takes_the_name_of_the_older_one(
    hub: SmallHub, store: Store, gguf_bytes: bytes
) -> None:
    first = pull_tiny(hub, store)
    newer = gguf_bytes[:-4] + b"\1\2\3\4"
    hub.repos["me/Tiny-GGUF"][FILE] = newer
    second = pull_tiny(hub, store)
    assert second.name == first.name and store.resolve(second.name).digest == digest_of_bytes(newer)


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
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)
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
        pull_tiny(hub, store, transfer=Transfer(1))
    hub.before = lambda handler: False
    hub.seen.clear()
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)
    starts = sorted(int(seen.headers["Range"][6:].split("-")[0]) for seen in hub.requests("/resolve/"))
    assert starts == [PIECE_BYTES, 2 * PIECE_BYTES]


@pytest.mark.parametrize("damage", ["data", "journal", "a torn line", "data gone"])
def test_what_a_power_cut_damaged_is_fetched_again(
    hub: SmallHub, store: Store, gguf_bytes: bytes, damage: str
) -> None:
    _only_the_first_part(hub)
    with pytest.raises(ForbiddenError):
        pull_tiny(hub, store, transfer=Transfer(1))
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
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)


def test_a_busy_hub_is_asked_again(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    refusals = iter([503, 429, 500, 502])

    def busy(handler: Any) -> bool:
        status = next(refusals, None)
        if status is not None:
            handler.json({"error": "busy"}, status)
        return status is not None

    hub.before = busy
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)


def test_a_hub_without_ranges_is_enough(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hub.ranges = False
    assert pull_tiny(hub, store).digest == digest_of_bytes(gguf_bytes)


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


def test_a_refusal_says_what_to_do(hub: SmallHub, store: Store) -> None:
    with pytest.raises(NotFoundError, match="not found") as missing:
        pull_tiny(hub, store, "me/none")
    assert f"nomoat login {hub.host}" in missing.value.hint

    def refuse(handler: Any) -> bool:
        handler.json({"error": "who are you?\x1b[31m"}, 401)
        return True

    hub.before = refuse
    with pytest.raises(UnauthorizedError) as refused:
        pull_tiny(hub, store)
    assert refused.value.hint == f"nomoat login {hub.host}"
    assert "\x1b" not in refused.value.message


def test_a_full_disk_is_noticed_before(hub: SmallHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(DiskFullError, match="are free"):
        pull_tiny(hub, store)
    assert not hub.requests("/resolve/")


def test_two_at_once_do_not_disturb_each_other(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    hold, waiting = threading.Event(), threading.Event()

    def slow(handler: Any) -> bool:
        if "/resolve/" in handler.path:
            waiting.set()
            hold.wait(10)
        return False

    hub.before = slow
    first = threading.Thread(target=pull_tiny, args=(hub, store))
    first.start()
    assert waiting.wait(10)
    try:
        with pytest.raises(ConflictError, match="another nomoat"):
            pull_tiny(hub, store)
    finally:
        hold.set()
        first.join()
    assert store.resolve("tiny:q4_k_m").digest == digest_of_bytes(gguf_bytes)


def test_a_limit_is_kept(hub: SmallHub, store: Store, gguf_bytes: bytes) -> None:
    began = time.monotonic()
    pull_tiny(hub, store, transfer=Transfer(4, 15e6))
    assert time.monotonic() - began > len(gguf_bytes) / 15e6 * 0.7


def test_a_tag_may_stand_where_a_quantisation_does(hub: SmallHub, store: Store) -> None:
    hub.tags = ("v2",)
    assert pull_tiny(hub, store, "me/Tiny-GGUF:v2").name == "tiny:q4_k_m"
    with pytest.raises(NotFoundError, match="no 'v3'; there are: Q4_K_M"):
        pull_tiny(hub, store, "me/Tiny-GGUF:v3")


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
        pulled = pull_tiny(hub, store, "me/parts:Q8_0")
        assert pulled.name == "parts:q8_0"
        assert len(read_gguf(store.resolve(pulled.name).path).tensors) == 5
        assert not list((store.home / "downloads").iterdir())
        hub.seen.clear()
        assert pull_tiny(hub, store, "me/parts").digest == pulled.digest and not hub.requests("/resolve/")
