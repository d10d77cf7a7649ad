"""`check` finds every kind of damage that is made here on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from conftest import Hub
from nomoat.base.progress import Silent
from nomoat.share.registry.check import check
from nomoat.share.registry.schema import blobs

_CONTENT = b"weights" * 300_000


@pytest.fixture
def filled(hub: Hub) -> Hub:
    repo = hub.repo("ines/model")
    hub.push(repo, {"sub/weights.bin": _CONTENT, "README.md": b"# hello"})
    hub.push(repo, {"config.json": b"{}"})
    return hub


def _weights(hub: Hub) -> Path:
    return hub.registry.config.root / "blobs" / "sha256"


def _file(hub: Hub, size: int) -> Path:
    return next(path for path in _weights(hub).glob("??/??/*") if path.stat().st_size == size)


def test_a_whole_registry_is_clean(filled: Hub) -> None:
    report = check(filled.registry, Silent())
    assert (report.problems, report.blobs, report.commits, report.refs) == ([], 3, 2, 1)


def test_both_databases(any_hub: Hub) -> None:
    any_hub.push(any_hub.repo("ines/model"), {"a/b/c.txt": b"hello"})
    assert check(any_hub.registry, Silent()).problems == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "seen_quickly"), [
    (_flip, False),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), True),
    (lambda path: path.unlink(), True),
    (lambda path: path.with_name(f"{path.name}.sums").write_bytes(b""), True),
])  # fmt: skip
def test_damaged_blobs(filled: Hub, damage: Callable[[Path], object], seen_quickly: bool) -> None:
    path = _file(filled, len(_CONTENT))
    damage(path)
    quick, full = (check(filled.registry, Silent(), quick=quick).problems for quick in (True, False))
    assert [problem.name for problem in quick] == ([f"sha256:{path.name}"] if seen_quickly else [])
    assert [problem.name for problem in full] == [f"sha256:{path.name}"]
    with filled.registry.database.read() as connection:
        marked = connection.execute(blobs.select().where(blobs.c.damaged)).all()
    assert [row.digest for row in marked] == [f"sha256:{path.name}"]


@pytest.mark.parametrize(("statement", "kinds"), [
    ("UPDATE tree_entries SET name = 'other.md' WHERE name = 'README.md'", {"tree"}),
    ("DELETE FROM tree_entries WHERE name = 'weights.bin'", {"tree"}),
    ("UPDATE commits SET title = 'not what was said' WHERE parent != ''", {"commit"}),
    ("DELETE FROM commits WHERE parent = ''", {"commit"}),
    ("UPDATE refs SET \"commit\" = '1111111111111111111111111111111111111111'", {"ref"}),
    ("UPDATE events SET kind = 'nothing' WHERE seq = 2", {"events"}),
    ("DELETE FROM repos_search", {"search"}),
    ("DELETE FROM blobs WHERE size_bytes = 2", {"blob"}),
])  # fmt: skip
def test_a_damaged_database(filled: Hub, statement: str, kinds: set[str]) -> None:
    with filled.registry.database.write() as connection:
        assert connection.execute(text(statement)).rowcount
    assert {problem.kind for problem in check(filled.registry, Silent()).problems} == kinds
