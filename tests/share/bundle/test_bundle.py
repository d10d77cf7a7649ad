"""Bundles: written, interrupted, read back, copied by skopeo; damaged and hostile ones refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limits import files_of_at_most
from made_things import made_adapter, made_model, store_at
from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import BadFileError, DiskFullError, InputError, NomoatError, NotFoundError
from nomoat.base.progress import Silent
from nomoat.share.bundle.read import read_bundle
from nomoat.share.bundle.take import take_bundle
from nomoat.share.bundle.write import write_bundle
from nomoat.share.things import find_thing
from nomoat.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Holds the model `base:3mb` and the adapter `notes` for it."""
    store = store_at(tmp_path / "home")
    model = store.import_file(made_model(tmp_path / "model.gguf", 1, mebibytes=3), "base:3mb")
    store.import_adapter(made_adapter(tmp_path / "adapter", model.digest), "notes")
    return store


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """An empty store: the other machine."""
    return store_at(tmp_path / "other")


@pytest.fixture
def bundle(store: Store, tmp_path: Path) -> Path:
    """Both things of the store."""
    _write(store, tmp_path / "usb", "notes", "base:3mb")
    return tmp_path / "usb"


def _write(store: Store, target: Path, *names: str) -> list[dict[str, Any]]:
    return write_bundle([find_thing(store, name, Silent()) for name in names], target, Silent())


def test_names_files_and_the_base_come_back(store: Store, other: Store, bundle: Path) -> None:
    taken = take_bundle(bundle, other, Silent())
    assert [(one.thing.kind, one.thing.name) for one in taken] == [
        ("model", "base:3mb"),
        ("adapter", "notes"),
    ]
    assert other.resolve("base:3mb").digest == store.resolve("base:3mb").digest
    assert other.adapter_file("notes", other.resolve("base:3mb")).name == "adapter.gguf"
    assert taken[1].thing.base_digest == store.resolve("base:3mb").digest
    assert not (taken[1].path / "report.json").exists(), "the owner's own words stay at home"
    assert all(one.already_there for one in take_bundle(bundle, other, Silent()))
    assert not list((other.home / "cache" / "bundles").iterdir())


def test_a_bundle_suits_fat32(bundle: Path) -> None:
    paths = [path for path in bundle.rglob("*") if not path.is_dir()]
    assert not [path for path in paths if set(path.name) & set('\\/:*?"<>|') or path.is_symlink()]
    assert not [path for path in paths if path.stat().st_nlink > 1 or path.name != path.name.lower()]
    assert {path.name for path in bundle.iterdir()} == {"blobs", "index.json", "oci-layout"}


def test_the_same_things_give_the_same_bundle(
    store: Store, other: Store, bundle: Path, tmp_path: Path
) -> None:
    take_bundle(bundle, other, Silent())
    _write(other, tmp_path / "again", "notes", "base:3mb")
    assert _content(tmp_path / "again") == _content(bundle)


def test_more_is_added_and_what_has_the_same_name_replaced(
    store: Store, other: Store, bundle: Path, tmp_path: Path
) -> None:
    other.import_file(made_model(tmp_path / "x.gguf", 7, mebibytes=1), "base:3mb")
    other.import_file(made_model(tmp_path / "y.gguf", 8, mebibytes=1), "more")
    _write(other, bundle, "base:3mb", "more")
    things = {thing.name: thing.digest for thing in read_bundle(bundle)}
    assert things["base:3mb"] == other.resolve("base:3mb").digest
    assert sorted(things) == ["base:3mb", "more", "notes"]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_copies_it_and_the_copy_is_taken(
    store: Store, other: Store, bundle: Path, tmp_path: Path
) -> None:
    for name in ("notes", "base:3mb"):
        raw = _skopeo("inspect", "--raw", f"oci:{bundle}:{name}")
        assert json.loads(raw)["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
        _skopeo("copy", f"oci:{bundle}:{name}", f"oci:{tmp_path / 'copy'}:{name}")
    assert len(take_bundle(tmp_path / "copy", other, Silent())) == 2
    assert other.resolve("base:3mb").digest == store.resolve("base:3mb").digest


def _skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


WRITE = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from nomoat.base.progress import Silent
    from nomoat.base.settings import Settings
    from nomoat.share.bundle import write
    from nomoat.share.things import find_thing
    from nomoat.store.store import Store

    class Slow(Silent):
        def advance(self, amount=1.0, note=""):
            time.sleep(0.05)

    write._CHUNK_BYTES = 64 << 10
    home, target = map(Path, sys.argv[1:])
    store = Store(home, Settings(home, None, home / "absent.gguf"))
    write.write_bundle([find_thing(store, "base:3mb", Silent())], target, Slow())
    """
)


class _Counting(Silent):
    """How many MB were written, or found to be there."""

    def __init__(self) -> None:
        self.amounts: list[float] = []

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.amounts.append(amount)


def test_an_interrupted_bundle_is_none_and_goes_on(store: Store, other: Store, tmp_path: Path) -> None:
    target = tmp_path / "usb"
    with subprocess.Popen([sys.executable, "-c", WRITE, str(store.home), str(target)]) as process:
        deadline = time.monotonic() + 20
        while not [path for path in target.rglob("*.part") if path.stat().st_size > 1 << 20]:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.kill()
    with pytest.raises(NotFoundError):
        take_bundle(target, other, Silent())
    [part] = target.rglob("*.part")
    before = part.read_bytes()
    with part.open("r+b") as handle:  # the end of it never reached the stick
        handle.seek(-4096, os.SEEK_END)
        handle.write(bytes(4096))
    _write(store, target, "base:3mb")
    assert not list(target.rglob("*.part"))
    assert take_bundle(target, other, Silent())[0].thing.name == "base:3mb"
    assert other.resolve("base:3mb").path.read_bytes().startswith(before)


def test_a_stick_that_is_full_is_said_and_the_index_stays(store: Store, bundle: Path, tmp_path: Path) -> None:
    store.import_file(made_model(tmp_path / "large.gguf", 2, mebibytes=6), "large")
    before = (bundle / "index.json").read_bytes()
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with files_of_at_most(4 << 20), pytest.raises(DiskFullError):
            _write(store, bundle, "large")
    finally:
        signal.signal(signal.SIGXFSZ, previous)
    assert (bundle / "index.json").read_bytes() == before
    _write(store, bundle, "large")
    assert len(read_bundle(bundle)) == 3


def test_a_folder_with_something_else_is_left_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError, match="holds something else") as caught:
        _write(store, tmp_path / "photos", "notes")
    assert str(tmp_path / "photos" / "nomoat") in caught.value.hint
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_bundle_that_was_damaged_on_the_stick_is_repaired_by_writing_it_again(
    store: Store, other: Store, bundle: Path
) -> None:
    _flip(_blob(bundle, store.resolve("base:3mb").digest), 100_000)
    with pytest.raises(BadFileError, match="not sha256"):
        take_bundle(bundle, other, Silent())
    assert other.list() == () and other.adapters() == ()
    _write(store, bundle, "base:3mb")
    assert len(take_bundle(bundle, other, Silent())) == 2


def test_every_byte_counts(store: Store, other: Store, bundle: Path) -> None:
    for path in (path for path in bundle.rglob("*") if path.is_file() and path.parent.name == "sha256"):
        before = path.read_bytes()
        if b'"modelfs"' in before:
            continue  # the configuration is for others: nothing here reads it
        _flip(path, len(before) // 2)
        with pytest.raises(BadFileError):
            take_bundle(bundle, other, Silent())
        path.write_bytes(before)
        for model in other.list():
            other.remove(model.name)
    assert len(take_bundle(bundle, other, Silent())) == 2


def test_a_name_that_is_taken_stops_it_before_anything_is_taken(
    other: Store, bundle: Path, tmp_path: Path
) -> None:
    other.import_adapter(made_adapter(tmp_path / "mine", "sha256:" + "2" * 64), "notes")
    with pytest.raises(InputError, match="'notes' already names another adapter"):
        take_bundle(bundle, other, Silent())
    assert other.list() == ()


Trick = Callable[[Path, dict[str, Any]], None]


def _layer_path(path: str) -> Trick:
    return lambda bundle, manifest: manifest["layers"][0]["annotations"].update(
        {"org.cncf.model.filepath": path, "org.opencontainers.image.title": path}
    )


def _layer(**changes: Any) -> Trick:
    return lambda bundle, manifest: manifest["layers"][0].update(changes)


def _note(key: str, value: Any) -> Trick:
    return lambda bundle, manifest: manifest["annotations"].update({key: value})


@pytest.mark.parametrize("trick", [
    pytest.param(_layer_path("../../evil.safetensors"), id="parent"),
    pytest.param(_layer_path("/etc/evil.safetensors"), id="absolute"),
    pytest.param(_layer_path("a\\..\\evil.safetensors"), id="backslash"),
    pytest.param(_layer_path("c:evil.safetensors"), id="drive"),
    pytest.param(_layer_path("adapter_model.bin"), id="pickle"),
    pytest.param(_layer_path(""), id="nameless"),
    pytest.param(_layer(digest="sha256:../../../../etc/passwd"), id="digest"),
    pytest.param(_layer(digest="md5:00"), id="other-digest"),
    pytest.param(_layer(size=5), id="size"),
    pytest.param(_layer(size=-1), id="negative-size"),
    pytest.param(_layer(mediaType="application/vnd.cncf.model.weight.v1.tar+gzip"), id="packed"),
    pytest.param(_note("nomoat.base.digest", "sha256:" + "3" * 64), id="another-base"),
    pytest.param(_note("nomoat.base.digest", "../base"), id="no-base"),
    pytest.param(lambda bundle, manifest: manifest.update(layers=[]), id="no-layers"),
    pytest.param(lambda bundle, manifest: manifest.update(layers="x"), id="layers"),
    pytest.param(lambda bundle, manifest: manifest["layers"].append(7), id="number"),
    pytest.param(lambda bundle, manifest: manifest["layers"].pop(), id="missing-layer"),
])  # fmt: skip
def test_a_hostile_manifest_is_refused(store: Store, other: Store, tmp_path: Path, trick: Trick) -> None:
    [entry] = _write(store, tmp_path / "usb", "notes")
    _rewrite(tmp_path / "usb", entry, trick)
    with pytest.raises(NomoatError):
        take_bundle(tmp_path / "usb", other, Silent())
    assert other.adapters() == () and not list(tmp_path.rglob("evil*"))


def test_a_hostile_manifest_of_an_adapter_is_refused(store: Store, other: Store, tmp_path: Path) -> None:
    """The adapter's own manifest must name its files only: what it names is what the store copies."""
    [entry] = _write(store, tmp_path / "usb", "notes")
    (tmp_path / "victim.json").write_text("{}")
    outside = {"sha256": sha256_file(tmp_path / "victim.json"), "bytes": 2}
    manifest = find_thing(store, "notes", Silent()).thing.digest
    content = json.loads(_blob(tmp_path / "usb", manifest).read_text())
    for path in ("../../../../victim.json", "/etc/passwd.json", "more.json", "manifest.json"):
        hostile = json.dumps({**content, "files": {**content["files"], path: outside}}).encode()
        _blob(tmp_path / "usb", sha256_bytes(hostile)).write_bytes(hostile)

        def point_at_it(bundle: Path, manifest: dict[str, Any], hostile: bytes = hostile) -> None:
            layer = next(
                one
                for one in manifest["layers"]
                if one["annotations"]["org.cncf.model.filepath"] == "manifest.json"
            )
            layer.update(digest=sha256_bytes(hostile), size=len(hostile))

        _rewrite(tmp_path / "usb", entry, point_at_it)
        with pytest.raises(BadFileError):
            take_bundle(tmp_path / "usb", other, Silent())
        assert other.adapters() == ()


@pytest.mark.parametrize("place", ["blob", "folder", "index"])
def test_links_are_not_followed(store: Store, other: Store, bundle: Path, tmp_path: Path, place: str) -> None:
    path = {"blob": _blob(bundle, store.resolve("base:3mb").digest), "folder": bundle / "blobs" / "sha256",
            "index": bundle / "index.json"}[place]  # fmt: skip
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFileError):
        take_bundle(bundle, other, Silent())
    assert other.list() == ()


def test_a_pipe_is_not_waited_for(other: Store, bundle: Path) -> None:
    (bundle / "index.json").unlink()
    os.mkfifo(bundle / "index.json")
    with pytest.raises(BadFileError, match="no file"):
        take_bundle(bundle, other, Silent())


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"manifests": 3}', b'{"manifests": [3]}', b"[" * 200_000,
                                   b'{"manifests": [{"digest": "sha256:x"}]}'])  # fmt: skip
def test_an_index_that_is_none_is_refused(other: Store, bundle: Path, index: bytes) -> None:
    (bundle / "index.json").write_bytes(index)
    with pytest.raises(BadFileError):
        take_bundle(bundle, other, Silent())


def _rewrite(bundle: Path, entry: dict[str, Any], trick: Trick) -> None:
    """Play the trick on a manifest and let the index name the result."""
    manifest = json.loads(_blob(bundle, entry["digest"]).read_text())
    trick(bundle, manifest)
    content = json.dumps(manifest).encode()
    _blob(bundle, sha256_bytes(content)).write_bytes(content)
    changed = {**entry, "digest": sha256_bytes(content), "size": len(content)}
    (bundle / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [changed]}))


def _blob(bundle: Path, digest: str) -> Path:
    return bundle / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _flip(path: Path, position: int) -> None:
    with path.open("r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)[0]
        handle.seek(position)
        handle.write(bytes([byte ^ 1]))


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
