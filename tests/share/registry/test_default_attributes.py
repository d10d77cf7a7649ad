"""Which files go apart and which go inside a commit, and which are left out."""

from __future__ import annotations

import pytest

from nomoat.share.registry.default_attributes import DEFAULT_ATTRIBUTES, ignored_by, is_binary_name, is_large

_OWN = """*.bin filter=lfs diff=lfs merge=lfs -text
keep/*.bin -filter
# *.txt filter=lfs

data/** filter=lfs
*.md text
"""


@pytest.mark.parametrize(
    ("path", "large"),
    [("a.bin", True), ("deep/a.bin", True), ("keep/a.bin", False), ("a.txt", None),
     ("data/x/y.txt", True), ("a.md", None)],
)  # fmt: skip
def test_the_last_rule_that_matches_counts(path: str, large: bool | None) -> None:
    assert is_large(path, _OWN) is large


def test_the_default_rules_name_weights_and_no_text() -> None:
    rules = DEFAULT_ATTRIBUTES.decode()
    assert is_large("deep/model.safetensors", rules) and is_large("m.gguf", rules)
    assert is_large("README.md", rules) is None and is_large("config.json", rules) is None
    assert is_binary_name("X.GGUF") and not is_binary_name("gguf")


def test_what_is_ignored_is_named_by_patterns() -> None:
    paths = ["a.log", "keep.log", "deep/a.log", "build/x", "src/build/y", "z"]
    assert ignored_by(paths, "*.log\n!keep.log\n/build/\n") == {"a.log", "deep/a.log", "build/x"}
    assert ignored_by(paths, "") == set()
