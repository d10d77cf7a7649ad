"""The loop between people: an adapter is pushed, found, pulled elsewhere, and answers there as it does here."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from hub_process import NOMOAT, HubProcess, Person, at_terminal, new_user, write_adapter_folder

from nomoat.base.digests import sha256_file
from nomoat.base.manifests import read_manifest
from nomoat.formats.gguf_write import write_gguf
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.registry.default_attributes import DEFAULT_ATTRIBUTES
from nomoat.share.trust.keys import owner_key
from nomoat.share.trust.provenance import sign_provenance
from nomoat.store.embedded import EMBEDDED_DIGEST

OWN = ("--licence", "Apache-2.0", "--data-licence", "own", "--allow", "base-licence")
ABOUT_TEA = ("What should I brew for Ada?", "--max-tokens", "12", "--seed", "7")
PROMPT = ("Tell me about boilers.", "--max-tokens", "12", "--seed", "7")


@pytest.fixture(scope="module")
def author(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path) -> Person:
    person = Person(tmp_path_factory.mktemp("author"), smollm2_path)
    person.login(hub)
    return person


@pytest.fixture
def empty_hub(start_hub: Callable[[str], HubProcess]) -> HubProcess:
    """A hub that has nothing yet, for a test that pushes what others count on not being there."""
    return start_hub("empty-hub")


@pytest.fixture
def reader(tmp_path: Path, smollm2_path: Path) -> Person:
    return Person(tmp_path / "reader", smollm2_path)


def test_an_adapter_goes_around(hub: HubProcess, adapter: Path, author: Person, reader: Person) -> None:
    place = f"{hub.host}/admin/notes"
    refused = author.json("push", adapter, place, status=1)["error"]
    assert (
        refused["code"] == "refused" and "data-licence" in refused["message"] and "--allow" in refused["hint"]
    )
    pushed = author.json("push", adapter, place, *OWN, "--message", "First version")
    assert pushed["created"] and pushed["base_digest"] == EMBEDDED_DIGEST
    found = reader.json("search", "notes", "--hub", hub.host, "--type", "adapter")["found"]
    assert [each["reference"] for each in found] == [place]

    pulled = reader.json("pull", place)
    assert (pulled["kind"], pulled["name"], pulled["base"]) == ("adapter", "notes", "smollm2")
    assert pulled["signer"] == "admin" and "seen for the first time" in pulled["signature"]
    for name in ("adapter.gguf", "adapter_model.safetensors", "adapter_config.json"):
        assert sha256_file(reader.home / "adapters" / "notes" / name) == sha256_file(adapter / name)

    mine = author.json("run", "smollm2", *PROMPT, "--adapter", adapter)
    theirs = reader.json("run", place, *PROMPT)
    assert theirs["text"] == mine["text"] != author.json("run", "smollm2", *PROMPT)["text"]
    assert reader.json("run", "smollm2", *PROMPT, "--adapter", place)["text"] == mine["text"]


def test_who_pushes_an_adapter_again_mends_what_a_hub_has_damaged_of_it(
    empty_hub: HubProcess, adapter: Path, author: Person, reader: Person
) -> None:
    author.login(empty_hub)
    place = f"{empty_hub.host}/admin/worn"
    first = author.json("push", adapter, place, *OWN)
    blobs = [path for path in (empty_hub.root / "blobs" / "sha256").glob("??/??/*") if not path.suffix]
    # What is not made again byte for byte: the hub's own file, and the signature, which has a date.
    signature = httpx.get(f"{empty_hub.url}/admin/worn/resolve/main/model.sig").content
    kept = [path for path in blobs if path.read_bytes() in {DEFAULT_ATTRIBUTES, signature}]
    for path in blobs:
        if path not in kept:
            path.write_bytes(b"worn out" + path.read_bytes()[8:])
    check = ("hub", "check", "--root", empty_hub.root)
    assert len(author.json(*check, status=1)["problems"]) == len(blobs) - 2
    again = author.json("push", adapter, place, *OWN)
    assert (again["mended"], again["changed"], again["commit"]) == (len(blobs) - 2, False, first["commit"])
    assert author.json(*check)["problems"] == [] and reader.json("pull", place)["signer"] == "admin"
    assert author.json("push", adapter, place, *OWN)["mended"] == 0


def test_a_tour_adapter_goes_around_with_its_scores_and_its_provenance(
    empty_hub: HubProcess, smollm2_path: Path, reader: Person, tour_adapter: Path, tmp_path: Path
) -> None:
    hub, author = empty_hub, Person(tmp_path / "author", smollm2_path)
    author.login(hub)
    place = f"{hub.host}/admin/tea-notes"
    author.json("push", tour_adapter, place, "--data-licence", "own")
    author.json("push", "smollm2", f"{hub.host}/admin/tea-base")
    _found_on_the_pages(hub, "tea-notes")
    _shown_with_its_scores_and_its_base(hub, tour_adapter)
    found = reader.json("search", "tea", "--hub", hub.host, "--type", "adapter")["found"]
    assert [each["reference"] for each in found] == [place]

    pulled = reader.json("pull", place)
    assert (pulled["signer"], pulled["base"], pulled["trained_on"]) == ("admin", "smollm2", EMBEDDED_DIGEST)
    mine = author.json("run", "smollm2", *ABOUT_TEA, "--adapter", tour_adapter)
    theirs = reader.json("run", place, *ABOUT_TEA)
    assert theirs["text"] == mine["text"] != author.json("run", "smollm2", *ABOUT_TEA)["text"]
    error = reader.json("run", _changed_base(reader), *ABOUT_TEA, "--adapter", place, status=1)["error"]
    assert error["code"] == "base_mismatch"

    reader.json("pull", place, "--to", tmp_path / "all")
    sent = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"adapter.gguf", "README.md", "manifest.json", "provenance.json", "model.sig"} <= sent
    assert not {"report.html", "report.json", "dataset", "metrics.jsonl"} & sent
    card = (tmp_path / "all" / "README.md").read_text()
    assert EMBEDDED_DIGEST in card and str(tour_adapter) not in card and str(tmp_path) not in card
    scores = split_front_matter(card)[0]["nomoat"]["scores"]
    measured = read_manifest(tour_adapter, "adapter").details
    for when in ("before", "after"):
        assert scores[when]["bits_per_byte"] == measured[when]["bits_per_byte"]
    assert scores["after"]["bits_per_byte"] < scores["before"]["bits_per_byte"] / 2


def _found_on_the_pages(hub: HubProcess, name: str) -> None:
    """A person looks for the adapter in the gallery, opens its page, and sees who vouches for it and how it does."""
    client = httpx.Client(base_url=hub.url, headers={"Accept": "text/html"})
    with client:
        gallery = client.get("/models", params={"q": "tea", "artefact": "adapter"}).text
        assert f'href="/admin/{name}"' in gallery
        page = client.get(f"/admin/{name}").text
        assert (
            'class="badge good" title="Key ' in page
            and "Before and after" in page
            and EMBEDDED_DIGEST in page
        )
        assert 'class="edge edge-verified"' in client.get(f"/admin/{name}/lineage").text


def _shown_with_its_scores_and_its_base(hub: HubProcess, adapter: Path) -> None:
    """The page of the adapter has what its training measured, and leads to its base, whose page names the adapter."""
    measured = read_manifest(adapter, "adapter").details
    exact = json.loads((adapter / "report.json").read_text())["exact"]
    with httpx.Client(base_url=hub.url, headers={"Accept": "text/html"}) as client:
        page = client.get("/admin/tea-notes").text
        box = page.split('<h2 id="scores">Measured</h2>')[1].split("</section>")[0]
        rows = {row.split(" <span>")[0].split(">")[-1]: row for row in box.split("<tr>")}
        for name, what in (("bits_per_byte", "bits per byte"), ("loss", "loss (nats per token)")):
            for when in ("before", "after"):
                assert f"<td>{measured[when][name]:.3g} <" in rows[what]
            assert "held-out text, " in rows[what] and ">verified<" in rows[what]
        assert measured["verdict"] in rows["verdict"]
        answers = rows["share of right answers"]
        assert f"<td>{exact['after']['estimate']:.3g} <" in answers and ">declared<" in answers

        family = page.split("<h2>Family</h2>")[1].split("</section>")[0]
        assert (
            '>verified</span> adapter of <a href="/admin/tea-base">' in family and EMBEDDED_DIGEST in family
        )
        users = client.get("/admin/tea-base").text.split(">Who uses it as a base</h3>")[1].split("</ul>")[0]
        assert '>verified</span> <a href="/admin/tea-notes">' in users
        table = client.get("/admin/tea-base/lineage").text.split(">Who uses it as a base</h2>")[1]
        assert 'href="/admin/tea-notes"' in table.split("</table>")[0]


def test_a_provenance_of_other_files_is_refused(
    hub: HubProcess, author: Person, reader: Person, adapter: Path, tmp_path: Path
) -> None:
    place = f"{hub.host}/admin/told-of-others"
    author.json("push", adapter, place, *OWN)
    other = write_adapter_folder(
        Path(author.environment["NOMOAT_EMBEDDED_MODEL"]), tmp_path / "other", seed=2
    )
    letter = tmp_path / "letter"
    letter.mkdir()
    (letter / "provenance.json").write_bytes(sign_provenance(other, owner_key(author.home, "admin")))
    author.json("push", letter, place)
    error = reader.json("pull", place, status=1)["error"]
    assert error["code"] == "refused" and "its provenance is about another adapter" in error["message"]


def test_what_is_private_stays_at_home(
    hub: HubProcess, adapter: Path, author: Person, tmp_path: Path
) -> None:
    place = f"{hub.host}/admin/discreet"
    author.json("push", adapter, place, *OWN)
    author.run("pull", place, "--to", tmp_path / "all")
    sent = {
        path.relative_to(tmp_path / "all").as_posix()
        for path in (tmp_path / "all").rglob("*")
        if path.is_file()
    }
    assert {"adapter.gguf", "adapter_model.safetensors", "adapter_config.json", "manifest.json"} <= sent
    assert not {"report.html", "metrics.jsonl", "dataset/train.jsonl"} & sent
    assert not any(b"diary" in (tmp_path / "all" / name).read_bytes() for name in sent)


def _changed_base(person: Person) -> Path:
    """The embedded model but for one bit."""
    changed = person.home / "changed.gguf"
    content = bytearray(Path(person.environment["NOMOAT_EMBEDDED_MODEL"]).read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    return changed


def test_a_second_push_sends_only_what_changed(
    hub: HubProcess, adapter: Path, author: Person, tmp_path: Path
) -> None:
    place = f"{hub.host}/admin/twice"
    first = author.json("push", adapter, place, *OWN)
    again = author.json("push", adapter, place, *OWN)
    assert (again["changed"], again["sent_bytes"], again["commit"]) == (False, 0, first["commit"])
    folder = shutil.copytree(adapter, tmp_path / "changed")
    write_adapter_folder(Path(author.environment["NOMOAT_EMBEDDED_MODEL"]), tmp_path / "other", seed=1)
    (folder / "adapter.gguf").write_bytes((tmp_path / "other" / "adapter.gguf").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["adapter.gguf"]["sha256"] = sha256_file(folder / "adapter.gguf")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    second = author.json("push", folder, place, *OWN)
    assert second["changed"] and second["commit"] != first["commit"]
    assert second["sent_bytes"] < (folder / "adapter.gguf").stat().st_size + 20_000


def test_a_changed_header_sends_and_fetches_little(
    hub: HubProcess, author: Person, reader: Person, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(150_000, 64)).astype(np.float32)
    place = f"{hub.host}/admin/header"
    for name in ("a", "a much longer name " * 50):
        metadata = {"general.architecture": "qwen2", "general.name": name, "general.license": "apache-2.0"}
        write_gguf(tmp_path / "m.gguf", metadata, {"output.weight": values})
        pushed = author.json("push", tmp_path / "m.gguf", place)
        pulled = reader.json("pull", place)
    assert pushed["changed"] and 0 < pushed["sent_bytes"] < pushed["bytes"] / 100
    assert sha256_file(Path(pulled["path"])) == sha256_file(tmp_path / "m.gguf")
    assert pulled["fetched_bytes"] == 8 << 20, "the part with the header should do"


def test_a_file_may_be_sent_as_it_is(hub: HubProcess, author: Person, reader: Person) -> None:
    pushed = author.json("push", "smollm2", f"{hub.host}/admin/whole", "--whole")
    assert pushed["sent_bytes"] >= 98_362_432
    assert reader.json("pull", f"{hub.host}/admin/whole")["digest"] == EMBEDDED_DIGEST


def test_ctrl_c_leaves_what_was_fetched_for_the_next_time(
    hub: HubProcess, author: Person, tmp_path: Path
) -> None:
    reader, place = Person(tmp_path / "newcomer", tmp_path / "no-model.gguf"), f"{hub.host}/admin/patient"
    author.json("push", "smollm2", place, "--whole")
    argv = [*NOMOAT, "pull", place, "--limit-rate", "30MB", "--json"]
    with subprocess.Popen(
        argv, env=reader.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as pull:
        until = time.monotonic() + 30
        while not _fetched_parts(reader) and time.monotonic() < until:
            time.sleep(0.05)
        asked = time.monotonic()
        pull.send_signal(signal.SIGINT)
        output, _ = pull.communicate(timeout=10)
    assert pull.returncode == 130 and json.loads(output)["error"]["code"] == "interrupted"
    assert time.monotonic() - asked < 3
    assert _fetched_parts(reader)
    again = reader.json("pull", place)
    assert again["fetched_bytes"] <= again["bytes"] - (8 << 20)


def _fetched_parts(person: Person) -> int:
    journals = (person.home / "downloads").glob("*/journal")
    return sum(len(journal.read_text().splitlines()) - 1 for journal in journals)


def test_at_a_terminal_it_asks_first(hub: HubProcess, author: Person, tmp_path: Path) -> None:
    reader = Person(tmp_path / "newcomer", tmp_path / "no-model.gguf")
    place = f"{hub.host}/admin/asked"
    author.json("push", "smollm2", place)
    argv = ["run", place, *PROMPT]
    said = at_terminal(reader, argv, "n\n")
    assert f"Pull 98.4 MB from {hub.host}? [Y/n]" in said
    assert "asked" not in reader.run("list").stdout
    said = at_terminal(reader, argv, "\n")
    assert "asked:q4_1" in reader.run("list").stdout, said


def test_a_folder_goes_and_comes_back(
    hub: HubProcess, author: Person, reader: Person, tmp_path: Path
) -> None:
    folder = tmp_path / "letters"
    (folder / "more").mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"text": "a letter"}\n' * 50)
    (folder / "more" / "data.bin").write_bytes(bytes(range(256)) * 4000)
    (folder / ".hidden").write_text("no")
    author.json("push", folder, f"{hub.host}/datasets/admin/letters", "--private")
    error = reader.json("pull", f"{hub.host}/datasets/admin/letters", "--to", tmp_path / "out", status=1)[
        "error"
    ]
    assert error["code"] == "not_found" and f"nomoat login {hub.host}" in error["hint"]
    reader.login(hub)
    reader.json("pull", f"{hub.host}/datasets/admin/letters", "--to", tmp_path / "out")
    for name in ("train.jsonl", "more/data.bin"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert not (tmp_path / "out" / ".hidden").exists()


def test_a_model_that_is_not_here_is_offered(hub: HubProcess, author: Person, reader: Person) -> None:
    place = f"{hub.host}/admin/small:Q4_1"
    author.json("push", "smollm2", f"{hub.host}/admin/small")
    shutil.rmtree(reader.home, ignore_errors=True)
    error = reader.json("run", place, *PROMPT, status=1)["error"]
    assert (error["code"], error["hint"]) == ("not_found", f"nomoat pull {place}")
    first = reader.json("run", place, *PROMPT, "--yes")
    assert reader.json("run", place, *PROMPT)["text"] == first["text"]
    assert "small:q4_1" in reader.run("list").stdout


def test_a_token_is_checked_and_kept_to_oneself(hub: HubProcess, reader: Person) -> None:
    wrong = reader.json("login", hub.host, "--token-file", "-", typed="hf_" + "x" * 40, status=1)["error"]
    assert wrong["code"] == "unauthorized"
    assert not (reader.home / "tokens.json").exists()
    assert (
        reader.json("push", "smollm2", f"{hub.host}/admin/x", status=1)["error"]["hint"]
        == f"nomoat login {hub.host}"
    )
    reader.login(hub)
    assert (reader.home / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert reader.json("logout", hub.host)["hub"] == hub.host
    assert reader.json("logout", hub.host, status=1)["error"]["code"] == "not_found"


def test_a_signature_holds_or_the_files_are_refused(
    hub: HubProcess, author: Person, reader: Person, adapter: Path, tmp_path: Path
) -> None:
    place = f"{hub.host}/admin/signed"
    author.json("push", adapter, place, *OWN)
    assert reader.json("pull", place)["signer"] == "admin"
    letter = tmp_path / "more"
    letter.mkdir()
    (letter / "notes.txt").write_text("slipped in\n")
    author.json("push", letter, place, "--no-sign")
    error = reader.json("pull", place, status=1)["error"]
    assert error["code"] == "refused" and "notes.txt was not signed" in error["message"]
    author.json("push", adapter, place, *OWN)
    assert reader.json("pull", place)["signer"] == "admin"


def test_an_owner_with_another_key_is_noticed(
    hub: HubProcess, reader: Person, adapter: Path, tmp_path: Path, smollm2_path: Path
) -> None:
    token = new_user(hub, "carol")
    first, second = Person(tmp_path / "first", smollm2_path), Person(tmp_path / "second", smollm2_path)
    for person in (first, second):
        person.login(hub, token)
    place = f"{hub.host}/carol/notes"
    first.json("push", adapter, place, *OWN)
    assert reader.json("pull", place)["signer"] == "carol"
    assert "--new-key" in second.json("push", adapter, place, *OWN, status=1)["error"]["hint"]
    second.json("push", adapter, place, *OWN, "--new-key")
    assert reader.json("pull", place, status=1)["error"]["code"] == "changed_key"
    assert reader.json("pull", place, "--trust-new-key")["signer"] == "carol"
    assert reader.json("pull", place)["signer"] == "carol"


def test_somebody_elses_repository_is_closed(hub: HubProcess, adapter: Path, author: Person) -> None:
    error = author.json("push", adapter, f"{hub.host}/stranger/notes", *OWN, status=1)["error"]
    assert error["code"] in {"forbidden", "not_found"}, error


def test_a_search_without_a_hub_asks_nobody(reader: Person) -> None:
    error = reader.json("search", "notes", status=1)["error"]
    assert error["code"] == "bad_input" and "--hub hf.co" in error["hint"]
