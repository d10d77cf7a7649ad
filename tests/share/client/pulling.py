"""What most tests of pulling do: pull one small model from a small hub."""

from __future__ import annotations

import hashlib
from typing import Any

from small_hub import SmallHub

from nomoat.base.progress import Silent
from nomoat.share.client.pull import Puller, PullOptions
from nomoat.share.client.pulled import Pulled
from nomoat.share.client.references import parse_reference
from nomoat.store.store import Store

__all__ = ["FILE", "digest_of_bytes", "pull_tiny"]

FILE = "Tiny-Q4_K_M.gguf"


def pull_tiny(hub: SmallHub, store: Store, name: str = "me/Tiny-GGUF", **options: Any) -> Pulled:
    with Puller(store, Silent()) as puller:
        reference = parse_reference(f"{hub.host}/{name}")
        return puller.pull(puller.plan(reference, PullOptions(**options)))


def digest_of_bytes(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
