"""A quota bounds what is stored: all versions, each content once."""

from __future__ import annotations

from typing import Any

import pytest

from nomoat.share.errors import QuotaError


def test_every_version_counts_and_nothing_counts_twice(any_hub: Any) -> None:
    repo, other = any_hub.repo("ann/one"), any_hub.repo("ann/two")
    any_hub.registry.accounts.change("ann", quota_bytes=2500)
    any_hub.push(repo, {"a": b"1" * 1000})
    any_hub.push(repo, {"a": b"2" * 1000})
    any_hub.push(other, {"b": b"1" * 1000})  # it is there already
    head = any_hub.registry.history.resolve(repo)
    with pytest.raises(QuotaError, match="500 bytes more"):
        any_hub.push(repo, {"a": b"3" * 1000})
    assert any_hub.registry.history.resolve(repo) == head
    any_hub.push(repo, {"a": b"4" * 500})
