"""`nomoat hub samples` beside a hub that runs: what its page says can be had again, and a kill leaves whole rows."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hub_process import NOMOAT, HubProcess, Person

from nomoat.store.embedded import EMBEDDED_DIGEST

_OWN = ("--licence", "Apache-2.0", "--data-licence", "own", "--allow", "base-licence")
_MANY = [word for number in range(20) for word in ("--prompt", f"Tell me about the number {number}.")]


@pytest.fixture(scope="module")
def operator(
    hub: HubProcess, adapter: Path, tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path
) -> Person:
    """Whose hub it is, with a model and an adapter in it."""
    person = Person(tmp_path_factory.mktemp("operator"), smollm2_path)
    person.login(hub)
    person.json("push", "smollm2", f"{hub.host}/admin/model")
    person.json("push", adapter, f"{hub.host}/admin/notes", *_OWN)
    return person


@pytest.fixture
def reader(tmp_path: Path, smollm2_path: Path) -> Person:
    return Person(tmp_path / "reader", smollm2_path)


def test_what_the_page_says_gives_the_same_answers(hub: HubProcess, operator: Person, reader: Person) -> None:
    prompt = "What's “Bob's & Ada's” <boiler>?\nSay it; `id` $HOME"
    made = operator.json("hub", "samples", "admin/notes", "--root", hub.root, "--prompt", prompt, "--seed", "7",
                         "--max-tokens", "12")  # fmt: skip
    (chat,) = made["samples"]
    assert chat["model_digest"] == EMBEDDED_DIGEST and chat["answer"] != chat["base_answer"]
    with_adapter, base_alone = _commands(f"{hub.url}/admin/notes")
    assert f"{hub.host}/admin/notes@{made['commit']}" in with_adapter
    assert _run(reader, with_adapter)["text"] == chat["answer"]
    again = _run(reader, base_alone)
    assert (again["text"], again["seed"], again["digest"]) == (chat["base_answer"], 7, EMBEDDED_DIGEST)


def _commands(url: str) -> list[str]:
    with urllib.request.urlopen(url) as answer:
        page = answer.read().decode()
    section = page[page.index('<h2 id="samples">') :].partition("</section>")[0]
    return [
        html.unescape(found)
        for found in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", section, re.DOTALL)
    ]


def _run(person: Person, command: str) -> dict[str, Any]:
    """As somebody who has copied the line, and says yes to pulling."""
    form, program, *words = shlex.split(command)
    assert (form, program) == ("NOMOAT_EMBEDDED=as-shipped", "nomoat")
    place = words.index("--")
    found: dict[str, Any] = json.loads(person.run(*words[:place], "--yes", "--json", *words[place:]).stdout)
    return found


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_what_is_done_when_it_is_stopped_stays_and_is_whole(
    hub: HubProcess, operator: Person, sign: signal.Signals, status: int
) -> None:
    before = len(_rows(hub))
    argv = [*NOMOAT, "hub", "samples", "admin/model", "--root", str(hub.root), "--max-tokens", "40", *_MANY]
    with subprocess.Popen(argv, env=operator.environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        until = time.monotonic() + 60
        while len(_rows(hub)) < before + 2 and time.monotonic() < until:
            time.sleep(0.02)
        worker = _worker_of(process.pid)
        process.send_signal(sign)
        assert process.wait(20) == status
    rows = _rows(hub)[before:]
    assert 2 <= len(rows) < 20
    for row in rows:
        assert row["answer"] and row["model_digest"] == EMBEDDED_DIGEST and row["log_entry"]
    assert _is_gone(worker), "the engine's process outlived its parent"
    work = hub.root / "sampling"
    assert len(list(work.iterdir())) == (sign == signal.SIGKILL)
    operator.json(
        "hub", "samples", "admin/model", "--root", hub.root, "--prompt", "And?", "--max-tokens", "2"
    )
    assert list(work.iterdir()) == []
    assert operator.json("hub", "check", "--root", hub.root)["problems"] == []


def test_a_model_that_never_loads_is_given_up(hub: HubProcess, operator: Person) -> None:
    before = _rows(hub)
    with _samples(hub, operator, "admin/notes", "--timeout", "2") as process:
        worker = _worker_of(process.pid)
        os.kill(worker, signal.SIGSTOP)  # while it still loads its libraries: from now on it does nothing
        answer, _ = process.communicate(timeout=60)
    error = json.loads(answer)["error"]
    assert process.returncode == 1 and error["code"] == "time_limit" and "--timeout" in error["hint"]
    assert _is_gone(worker) and _rows(hub) == before and list((hub.root / "sampling").iterdir()) == []


def test_an_answer_without_an_end_is_skipped_and_the_next_prompt_asked(
    hub: HubProcess, operator: Person
) -> None:
    before = len(_rows(hub))
    with _samples(
        hub, operator, "admin/model", "--timeout", "6", "--max-tokens", "40", *_MANY[:12]
    ) as process:
        while len(_rows(hub)) == before and process.poll() is None:
            time.sleep(0.02)
        worker = _worker_of(process.pid)
        os.kill(worker, signal.SIGSTOP)
        answer, _ = process.communicate(timeout=90)
    told = json.loads(answer)
    [skipped] = told["skipped"]
    assert process.returncode == 1 and "was not answered within 6 s" in skipped["why"]
    made = [each["prompt"] for each in told["samples"]]
    assert len(made) == 5 and sorted([*made, skipped["prompt"]]) == _MANY[1:12:2] and made[-1] == _MANY[11]
    assert _is_gone(worker) and len(_rows(hub)) == before + 5


def _samples(hub: HubProcess, person: Person, *arguments: str) -> subprocess.Popen[str]:
    argv = [*NOMOAT, "hub", "samples", *arguments, "--root", str(hub.root), "--json"]
    return subprocess.Popen(argv, env=person.environment, stdout=subprocess.PIPE, text=True)


def _rows(hub: HubProcess) -> list[dict[str, Any]]:
    connection = sqlite3.connect(hub.root / "hub.db")
    try:
        return [
            json.loads(content)
            for (content,) in connection.execute("SELECT content FROM samples ORDER BY id")
        ]
    finally:
        connection.close()


def _worker_of(pid: int) -> int:
    """The process that runs the model, as soon as there is one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if "nomoat.run.worker" in Path(f"/proc/{child}/cmdline").read_text():
                    return int(child)
        time.sleep(0.002)
    pytest.fail("no worker was started")


def _is_gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_prompts_come_from_a_file_or_the_card(hub: HubProcess, operator: Person, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("One?\n\n  Two?  \n")
    made = operator.json("hub", "samples", "admin/model:Q4_1", "--root", hub.root, "--max-tokens", "3",
                         "--temperature", "0", "--prompts", tmp_path / "prompts.txt")  # fmt: skip
    assert [each["prompt"] for each in made["samples"]] == ["One?", "Two?"]
    said = operator.run("hub", "samples", "admin/model", "--root", hub.root, "--max-tokens", "3", "--replace")
    assert said.stdout.count("asked: ") == 3 and "3 of 3 kept" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["admin/nothing"], "not_found"),
        (["admin"], "bad_input"),
        (["admin/model:Q2_K"], "not_found"),
        (["admin/model", "--revision", "no-such-branch"], "not_found"),
        (["admin/model", "--prompt", "\x1b]0;title\x07"], "bad_input"),
        (["admin/model", "--seed", "-1"], "bad_input"),
        (["admin/model", "--max-tokens", "0"], "bad_input"),
    ],
)
def test_what_cannot_be_is_said(hub: HubProcess, operator: Person, arguments: list[str], code: str) -> None:
    error = operator.json("hub", "samples", *arguments, "--root", hub.root, status=1)["error"]
    assert error["code"] == code and error["hint"]


def test_without_a_hub_nothing_is_made(operator: Person, tmp_path: Path) -> None:
    error = operator.json("hub", "samples", "a/b", "--root", tmp_path / "none", status=1)["error"]
    assert error["code"] == "not_found" and not (tmp_path / "none").exists()


def test_a_damaged_file_does_not_answer(operator: Person, hub: HubProcess, tmp_path: Path) -> None:
    copy = tmp_path / "hub"
    shutil.copytree(hub.root, copy, ignore=shutil.ignore_patterns("home", "*.sock"))
    name = EMBEDDED_DIGEST.removeprefix("sha256:")
    with (copy / "blobs" / "sha256" / name[:2] / name[2:4] / name).open("r+b") as handle:
        handle.seek(1 << 20)
        handle.write(b"another byte")
    error = operator.json("hub", "samples", "admin/model", "--root", copy, status=1)["error"]
    assert error["code"] == "damaged_blob" and "nomoat hub check" in error["hint"]
