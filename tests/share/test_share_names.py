"""Names from outside become paths, keys and git objects only when they are harmless."""

from __future__ import annotations

import posixpath
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.share.names import RepoName, check_digest, check_owner, check_path, check_ref_name, is_digest


@given(st.text(max_size=60) | st.from_regex(r"[\w./\\:~ -]{1,40}", fullmatch=True))
def test_a_path_that_passes_stays_below_its_folder(text: str) -> None:
    try:
        path = check_path(text)
    except InputError:
        return
    assert path == text == posixpath.normpath(text) == unicodedata.normalize("NFC", text)
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert not set(path) & set("\\:\0\n\r\x7f")
    path.encode()


@pytest.mark.parametrize("path", [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\\b", "C:a", "a\0b", "a\nb", ".git/config",
    "x/.GIT", "con", "x/NUL.txt", "com1", "a.", "a ", " a", "e\u0301", "a\u202eb", "\ud800", "a" * 256, "a/" * 40 + "a",
    "a/" + "b" * 1024,
])  # fmt: skip
def test_paths_that_lead_astray(path: str) -> None:
    with pytest.raises(InputError):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a/b.gguf", ".gitattributes", "Größe/日本語.txt", "a..b", "-x", "console.md"]
)
def test_paths_of_people(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("text", ["", "a", "a/", "/a", "a/b/c", "a/..", "a/b..c", "a/b--c", "a/.b", "a/b.", "a/b.git",
                                  "api/x", "A" * 43 + "/x",
                                  "a/" + "b" * 97, "a/b\n", "a /b", "ä/b", "models/x"])  # fmt: skip
def test_names_of_no_repository(text: str) -> None:
    with pytest.raises(InputError):
        RepoName.parse("model", text)


def test_a_repository_is_the_same_in_any_case() -> None:
    first, second = RepoName.parse("model", "Me/Notes"), RepoName.parse("model", "me/notes")
    assert first.key == second.key != RepoName.parse("dataset", "me/notes").key
    assert str(first) == "Me/Notes"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a..b", "a//b", "a.lock", "a@{0}", "a b", "a~1", "a^", "a:b", "-a",
                                  "a" * 200, "0" * 40, "a\n"])  # fmt: skip
def test_names_of_no_branch(name: str) -> None:
    with pytest.raises(InputError):
        check_ref_name(name)


@pytest.mark.parametrize("owner", ["API", "", "a/b", ".", "..", "-", "a" * 43])
def test_names_of_nobody(owner: str) -> None:
    with pytest.raises(InputError):
        check_owner(owner)


@given(st.text(max_size=80))
def test_a_digest_is_nothing_else(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(InputError):
        check_digest(text)
    assert not is_digest("sha256:" + "0" * 64 + "\n")
    assert check_digest("sha256:" + "0" * 64)
