"""`nomoat share`, `export --bundle` and `import` as people and scripts meet them; the QR code as a camera does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import segno
from PIL import Image

from made_things import made_adapter, made_model, store_at
from nomoat.base.settings import child_environment
from nomoat.cli.share import _ready
from nomoat.cli.share_qr import qr_lines
from nomoat.server.lan.serving import Ready
from nomoat.share.client.pulled import Pulled, PulledNames
from nomoat.store.store import Store

_NOMOAT = [sys.executable, "-m", "nomoat.cli.main"]
_URL = "http://192.168.178.123:54321/"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = store_at(tmp_path / "home")
    model = store.import_file(made_model(tmp_path / "model.gguf", 1, mebibytes=1), "base:tiny")
    store.import_adapter(made_adapter(tmp_path / "adapter", model.digest), "notes")
    return store


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Run:
    def _run(
        *arguments: str | Path, home: Path = store.home, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        environment = child_environment(
            NOMOAT_HOME=str(home),
            NOMOAT_EMBEDDED_MODEL=str(tmp_path / "absent.gguf"),
            NO_COLOR="1",
            COLUMNS="200",
        )
        argv = [*_NOMOAT, *map(str, arguments)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return _run


def _matrix(lines: list[str], dark_is_drawn: bool) -> list[list[bool]]:
    """Which modules are dark, from the characters alone."""
    dark = []
    for line in lines:
        plain = line.removeprefix("\x1b[38;5;16;48;5;231m").removesuffix("\x1b[0m")
        dark.append([(letter in "▀█") is dark_is_drawn for letter in plain])
        dark.append([(letter in "▄█") is dark_is_drawn for letter in plain])
    return dark


@pytest.mark.parametrize("colours", [True, False])
def test_the_qr_code_is_the_library_s_own_with_a_quiet_zone(colours: bool) -> None:
    dark = _matrix(qr_lines(_URL, colours), colours)
    wanted = [list(map(bool, row)) for row in segno.make(_URL, micro=False, error="l").matrix]
    size = len(wanted)
    assert [row[2 : 2 + size] for row in dark[2 : 2 + size]] == wanted
    assert not any(any(row) for row in (*dark[:2], *dark[2 + size :]))
    assert not any(any(row[:2]) or any(row[2 + size :]) for row in dark)
    assert len(dark[0]) <= 40, "it fits an ordinary terminal"


@pytest.mark.skipif(shutil.which("zbarimg") is None, reason="zbarimg is not installed")
@pytest.mark.parametrize("colours", [True, False])
def test_a_camera_reads_the_address(tmp_path: Path, colours: bool) -> None:
    dark = _matrix(qr_lines(_URL, colours), colours)
    picture = Image.new("L", (len(dark[0]), len(dark)), 255)
    picture.putdata([0 if module else 255 for row in dark for module in row])
    picture.resize((8 * len(dark[0]), 8 * len(dark)), Image.Resampling.NEAREST).save(tmp_path / "qr.png")
    read = subprocess.run(
        ["zbarimg", "-q", "--raw", tmp_path / "qr.png"], capture_output=True, text=True, timeout=30
    )
    assert read.stdout.strip() == _URL


@pytest.mark.parametrize(
    ("urls", "readers"),
    [(("http://127.0.0.1:1",), "Only who is on this machine"), (("http://[::1]:1",), "Only who is on this machine"),
     (("http://192.168.1.2:1", "http://127.0.0.1:1"), "Anyone in this network")],
)  # fmt: skip
def test_who_can_read_it_is_said_as_it_is(
    urls: tuple[str, ...], readers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _ready(Ready(urls, ()), (), as_json=False)
    shown = capsys.readouterr()
    assert f"{readers} can read this" in shown.err
    assert ("On this machine" in shown.out) == (readers != "Anyone in this network")


def test_a_name_that_is_not_there_is_an_error_with_the_nearest(run: Run) -> None:
    done = run("share", "base:tinny", "--host", "127.0.0.1", status=1)
    assert "no model is named 'base:tinny'" in done.stderr and "did you mean 'base:tiny'" in done.stderr
    content = json.loads(run("share", "nothing", "--host", "127.0.0.1", "--json", status=1).stdout)
    assert content["error"]["code"] == "not_found"
    assert "Missing argument" in run("share", status=2).stderr


NAMESPACE = """
import json, os, signal, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
nomoat = [sys.executable, "-m", "nomoat.cli.main"]
first = dict(os.environ, NOMOAT_HOME=sys.argv[1])
alone = subprocess.run([*nomoat, "share", "base:tiny"], env=first, capture_output=True, text=True)
argv = [*nomoat, "share", "base:tiny", "notes", "--host", "127.0.0.1"]
server = subprocess.Popen(argv, env=first, stdout=subprocess.PIPE, text=True)
lines = []
while not lines or "pull lan/notes" not in lines[-1]:
    lines.append(server.stdout.readline())
    assert lines[-1], lines
program = '''
from nomoat.base.progress import Silent
from nomoat.share.lan.pull import pull_lan, resolve_lan
from nomoat.store.store import Store
store = Store.from_environment()
print(pull_lan(resolve_lan("lan/notes"), store, Silent()).base_digest)
'''
second = dict(os.environ, NOMOAT_HOME=sys.argv[2])
pulled = subprocess.run([sys.executable, "-c", program], env=second, capture_output=True, text=True)
server.send_signal(signal.SIGINT)
print(json.dumps({"alone": alone.stderr, "shown": "".join(lines), "pulled": pulled.stdout, "errors": pulled.stderr,
                  "status": server.wait(20)}))
"""


def test_two_processes_meet_in_a_network_of_their_own(store: Store, tmp_path: Path) -> None:
    """A network namespace holds nothing but the loopback interface, so nothing could have gone elsewhere."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/sbin", "/usr/sbin"])
    prefix = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("ip", path=path) or not shutil.which("unshare"):
        pytest.skip("ip or unshare is missing")
    if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("unshare may not make a network namespace here")
    environment = child_environment(
        PATH=path, NO_COLOR="1", NOMOAT_EMBEDDED_MODEL=str(tmp_path / "absent.gguf")
    )
    argv = [*prefix, sys.executable, "-c", NAMESPACE, str(store.home), str(tmp_path / "other")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "no private address" in told["alone"] and "--host" in told["alone"]
    assert "http://127.0.0.1:" in told["shown"] and "▀" in told["shown"]
    digest = store.resolve("base:tiny").digest
    assert f"base:tiny: model, 1.1 MB, {digest}" in told["shown"], told["shown"]
    assert told["pulled"].strip() == digest, told["errors"]
    assert told["status"] == 0
    assert store_at(tmp_path / "other").adapters() == ("notes",)


def test_a_bundle_goes_out_and_in(run: Run, store: Store, tmp_path: Path) -> None:
    usb, home = tmp_path / "usb", tmp_path / "other"
    content = json.loads(run("export", "notes", "base:tiny", "--bundle", usb, "--json").stdout)
    assert content["path"] == str(usb) and [thing["name"] for thing in content["things"]] == [
        "notes",
        "base:tiny",
    ]
    assert all(thing["manifest_digest"].startswith("sha256:") for thing in content["things"])
    taken = json.loads(run("import", usb, "--json", home=home).stdout)["things"]
    assert [(thing["name"], thing["already_there"]) for thing in taken] == [
        ("base:tiny", False),
        ("notes", False),
    ]
    assert taken[1]["base_digest"] == taken[0]["digest"] == store.resolve("base:tiny").digest
    assert "was there already" in run("import", usb, home=home).stdout
    assert "keeps the names" in run("import", usb, "--name", "x", home=home, status=2).stderr


def test_an_adapter_without_its_base_says_so(run: Run, tmp_path: Path) -> None:
    assert "needs its base" in run("export", "notes", "--bundle", tmp_path / "usb").stderr
    assert "needs its base" in run("import", tmp_path / "usb", home=tmp_path / "other").stderr


def test_a_file_is_still_exported_as_before(run: Run, tmp_path: Path) -> None:
    assert "wrote" in run("export", "base:tiny", tmp_path / "file.gguf").stdout
    assert (tmp_path / "file.gguf").is_file()
    for arguments in (["base:tiny"], ["a", "b", "c"]):
        assert "DESTINATION" in run("export", *arguments, status=2).stderr


def test_an_adapter_is_shown_with_its_base(run: Run, store: Store, tmp_path: Path) -> None:
    base = store.resolve("base:tiny").digest
    shown = json.loads(run("show", "notes", "--json").stdout)
    folder = store.home / "adapters" / "notes"
    assert (shown["kind"], shown["base"]) == ("adapter", "base:tiny")
    assert {each["path"]: each["bytes"] for each in shown["files"]} == {
        path.name: path.stat().st_size for path in folder.iterdir()
    }
    store.import_adapter(folder / "adapter.gguf", "bare")
    bare = json.loads(run("show", "bare", "--json").stdout)
    for content in (shown, bare):
        assert (content["rank"], content["alpha"], content["pulled_from"]) == (4, 8.0, "")
        assert content["base_digest"] == base
    words = run("show", "notes").stdout
    assert f"base digest   {base}" in words and "base:tiny, which is in the store" in words
    run("rm", "base:tiny")
    assert "not in the store" in run("show", "notes").stdout


def test_a_signed_adapter_says_where_it_comes_from(run: Run, store: Store) -> None:
    pulled = Pulled("hub.local/ada/notes", "adapter", "notes", "c" * 40, "sha256:1", "hub.local/ada/notes",
                    "signed by ada, known", "ada")  # fmt: skip
    PulledNames(store).keep(pulled, [])
    shown = json.loads(run("show", "notes", "--json").stdout)
    assert (shown["pulled_from"], shown["signer"], shown["commit"]) == (
        pulled.reference,
        "ada",
        pulled.commit,
    )
    words = run("show", "notes").stdout
    assert "hub.local/ada/notes, version cccccccccccc" in words and "signed by ada, known" in words


def test_an_adapter_goes_into_a_bundle_not_a_file(run: Run, tmp_path: Path) -> None:
    told = run("export", "notes", tmp_path / "notes.gguf", status=1).stderr
    assert "is an adapter" in told and "nomoat export notes --bundle DIR" in told
    assert not (tmp_path / "notes.gguf").exists()
