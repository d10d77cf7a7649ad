"""Sample chats on a model's page: both answers, what was pinned, which version, and whether the log knows them."""

from __future__ import annotations

import html
import re
import shlex
from typing import Any

import httpx
from browser import Browser
from filled_hub import FilledHub
from filling import commit_files
from sqlalchemy import insert

from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.schema import samples

_MODEL, _ADAPTER = "/ines/SmolLM2-135M-Instruct-GGUF", "/ines/kitchen-adapter"
_TEXTS = "[...document.querySelectorAll({!r})].map(each => each.textContent.trim())"


def _texts(page: Browser, selector: str) -> Any:
    return page.script(_TEXTS.format(selector))


def test_an_adapter_shows_both_answers_and_what_was_pinned(page: Browser, pages_hub: FilledHub) -> None:
    page.open(pages_hub.url + _ADAPTER)
    assert _texts(page, "#samples ~ .sample .asks") == ["What goes into\na “good” <bread>?", "Who are you?"]
    assert _texts(page, "#samples ~ .sample h3") == ["The base alone", "With the adapter"] * 2
    assert set(_texts(page, ".sample-head .badge.good")) == {"made here"}
    repo = pages_hub.hub.registry.repos.get(ANONYMOUS, RepoName.parse("model", _ADAPTER[1:]))
    chats = pages_hub.hub.registry.samples.of(repo, repo.head or "")
    titles = page.script("[...document.querySelectorAll('.sample-answers .digest')].map(each => each.title)")
    pinned = [chat.content[f"{side}_digest"] for chat in chats for side in ("model", "adapter")]
    assert titles == pinned
    shown = [answer.replace(" … (cut here)", "") for answer in _texts(page, ".sample .answers")]
    told = [chat.content[name].strip() for chat in chats for name in ("base_answer", "answer")]
    assert [" ".join(text.split()) for text in shown] == [" ".join(text.split()) for text in told]


def test_chats_of_other_versions_say_so(page: Browser, pages_hub: FilledHub) -> None:
    page.open(pages_hub.url + _ADAPTER)
    assert _texts(page, ".older > summary") == ["Of other versions (2)"]
    marks = _texts(page, ".older .badge.warm")
    assert len(marks) == 2 and all(
        re.fullmatch(r"of version [0-9a-f]{12}, not this one", text) for text in marks
    )
    assert page.script("document.querySelector('.older').open") is False


def test_chats_of_the_same_files_are_not_called_old(page: Browser, pages_hub: FilledHub) -> None:
    hub = pages_hub.hub
    who, name = hub.registry.accounts.identity("marek", "write"), RepoName.parse("model", "marek/later")
    files = {"w.dat": b"weights", "adapter_config.json": b"{}"}
    before = hub.commit(commit_files(hub, who, name, files))
    weights, config = (hub.registry.history.entry(before, path).digest for path in files)
    repo = commit_files(hub, who, name, {"README.md": b"A card that came later."})
    content = {"prompt": "?", "answer": "!", "adapter_digest": weights, "adapter_config_digest": config}
    hub.registry.samples.add(repo, before, content)
    page.open(f"{pages_hub.url}/{name}")
    assert _texts(page, "#samples ~ .sample .badge.calm") == [f"same files, made at {before.oid[:12]}"]
    commit_files(hub, who, name, {"adapter_config.json": b'{"lora_alpha": 64}'})
    page.open(f"{pages_hub.url}/{name}")
    assert _texts(page, ".older .badge.warm") == [f"of version {before.oid[:12]}, not this one"]


def test_a_chat_that_the_log_does_not_know_says_so(pages_hub: FilledHub) -> None:
    hub, prompt = pages_hub.hub, "'; rm -rf ~ #\n$(id) `id`"
    who = hub.registry.accounts.identity("marek", "write")
    repo = commit_files(hub, who, RepoName.parse("model", "marek/boast"), {"a.txt": b"a"})
    contents: tuple[Any, ...] = (
        {"prompt": prompt, "answer": "I am the best.", "seed": 1, "model": "a/b", "model_file": "c.gguf",
         "log_entry": 1, "temperature": 0.0},
        {"log_entry": ["x"], "answer": None, "base_answer": 7}, ["no object"],
    )  # fmt: skip
    with hub.registry.database.write() as connection:
        for content in contents:
            row = {"repo_id": repo.id, "commit": repo.head, "content": content, "created_ms": now_ms()}
            connection.execute(insert(samples).values(row))
    text = httpx.get(f"{pages_hub.url}/marek/boast").text
    assert text.count("not in this hub\u2019s log") == 3 and "made here" not in text
    commands = map(html.unescape, re.findall(r"<pre[^>]*><code>(.*?)</code>", text, re.DOTALL))
    (command,) = (each for each in commands if "rm -rf" in each)
    words = shlex.split(command)
    assert words[-2:] == ["--", prompt] and words[words.index("--temperature") + 1] == "0.0"
