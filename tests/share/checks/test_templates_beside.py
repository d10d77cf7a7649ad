"""Chat templates that lie beside the weights are tried like those inside a GGUF file."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nomoat.base.errors import BadFileError
from nomoat.formats.chat_template import ChatTemplate
from nomoat.share.checks.inspect import inspect
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.inspection import RefusedFileError, inspect_files
from nomoat.share.registry.registry import Registry, RegistryConfig

ENDLESS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3


def look(path: str, content: bytes) -> dict[str, Any]:
    return inspect(path, io.BytesIO(content), len(content))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "a/chat_template.json", "chat_template.jinja"])
@pytest.mark.parametrize(
    ("source", "renders"),
    [("{{ messages[0].content }}", True), ("{% for %}", False), ("{{ [].append.__globals__ }}", False)],
)
def test_they_are_tried(name: str, source: str, renders: bool) -> None:
    content = json.dumps({"chat_template": source}) if name.endswith("json") else source
    found = look(name, content.encode())["chat_template"]
    assert found["renders"] is renders and bool(found.get("problem")) is not renders


def test_one_that_never_ends_is_ended() -> None:
    assert not look("chat_template.jinja", ENDLESS.encode())["chat_template"]["renders"]


def test_of_several_the_default_one_is_tried() -> None:
    several = [
        {"name": "rag", "template": "{% x %}"},
        7,
        {"name": "default", "template": "{{ messages[0].content }}"},
    ]
    content = json.dumps({"chat_template": several}).encode()
    assert look("tokenizer_config.json", content)["chat_template"]["renders"]
    assert "chat_template" not in look("config.json", content)
    assert "chat_template" not in look("tokenizer_config.json", b'{"chat_template": [1, {"template": 2}]}')
    assert not look("tokenizer_config.json", b'{"chat_template": "\\ud800"}')["chat_template"]["renders"]


def test_a_commit_brings_no_more_of_them_than_models_have(tmp_path: Path) -> None:
    files = [AddFile(f"{number}.jinja", f"sha256:{number:064}", 9, "") for number in range(200)]
    seen: list[str] = []

    def facts(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
        seen.append(path)
        return {"chat_template": {"sha256": path, "renders": False}}

    with contextlib.closing(Registry(RegistryConfig(tmp_path))) as registry:
        with pytest.raises(RefusedFileError, match="64 chat templates"):
            inspect_files(facts, registry.blobs, files, {file.digest: b"" for file in files})
    assert len(seen) == 65


@pytest.mark.parametrize(
    "source", ["{{ " + "[" * 3000, "{{ " + "9" * 5000 + " }}", "{% if x %}" * 200 + "{% endif %}" * 200]
)
def test_a_template_that_cannot_be_read_is_a_bad_file(source: str) -> None:
    with pytest.raises(BadFileError):
        ChatTemplate(source, "", "", "m.gguf").render([{"role": "user", "content": "x"}])
