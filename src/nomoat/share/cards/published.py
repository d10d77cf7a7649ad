"""The manifest of an adapter as it goes to others: it names what goes along, and nothing of its maker's disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.share.trust.provenance import PROVENANCE_NAME
from nomoat.share.trust.signatures import SIGNATURE_NAME
from nomoat.store.adapters import ADAPTER_KIND

__all__ = ["published_manifest"]

# These change on a hub without the adapter being another one.
_NOT_LISTED = {"README.md", MANIFEST_NAME, SIGNATURE_NAME, PROVENANCE_NAME}
_PRIVATE = "adapter"
"""The field of a run's details that is a path."""


def published_manifest(folder: Path, names: Iterable[str]) -> bytes:
    """manifest.json for the files `names` of a finished adapter. The pin to the base stays.

    Without it, whoever pulls only a part could not load the adapter: every file that a manifest names must be there.
    Raises as `read_manifest` does, which compares every file first.
    """
    manifest = read_manifest(folder, ADAPTER_KIND, verify=True)
    listed = set(names) - _NOT_LISTED
    files = {name: entry for name, entry in manifest.files.items() if name in listed}
    details = {name: value for name, value in manifest.details.items() if name != _PRIVATE}
    if "base" in details:
        details["base"] = Path(str(details["base"])).name
    published = replace(manifest, files=files, details=details)
    return (json.dumps(asdict(published), indent=2, ensure_ascii=False) + "\n").encode()
