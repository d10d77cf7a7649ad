"""Reports of what should not be on a hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import ForbiddenError, QuotaError, UnauthorizedError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS
from nomoat.share.registry.registry import Registry, RegistryConfig


def test_only_the_admin_reads_reports_and_closes_them(tmp_path: Path) -> None:
    registry = Registry(RegistryConfig(tmp_path))
    registry.accounts.add("me")
    registry.accounts.add("root", is_admin=True)
    me, root = registry.accounts.identity("me"), registry.accounts.identity("root")
    repo = registry.repos.create(me, RepoName.parse("model", "me/notes"))
    registry.reports.add(me, repo, " copied ")
    for reason in ("", "  ", "x" * 4_001):
        with pytest.raises(InputError):
            registry.reports.add(me, repo, reason)
    with pytest.raises(UnauthorizedError):
        registry.reports.add(ANONYMOUS, repo, "x")
    with pytest.raises(ForbiddenError):
        registry.reports.all(me)
    (report,) = registry.reports.all(root)
    assert (report.repo.name, report.reporter, report.reason) == (repo.name, "me", "copied")
    registry.reports.close(root, report.id)
    assert registry.reports.all(root) == []
    with pytest.raises(NotFoundError):
        registry.reports.close(root, 99)
    for _ in range(50):
        registry.reports.add(me, repo, "again")
    with pytest.raises(QuotaError):
        registry.reports.add(me, repo, "again")
    registry.repos.delete(me, repo.name)
    assert registry.reports.all(root) == []
    registry.close()
