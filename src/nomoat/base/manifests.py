"""A folder with a manifest is a finished artefact: the manifest is written last and names every file.

Stages of nomoat (dataset, adapter, report) meet through such folders. `parents` holds the digests of
what an artefact was made from, so that lineage needs no database.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.files import atomic_write_json

__all__ = ["MANIFEST_NAME", "Manifest", "read_manifest", "write_manifest"]

MANIFEST_NAME = "manifest.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """What a finished folder holds.

    `files` maps a relative name to `{"sha256": ..., "bytes": ...}`; `parents` maps a role
    ("base", "dataset") to a digest; `details` is the artefact's own description.
    """

    kind: str
    files: dict[str, dict[str, Any]]
    parents: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    schema: int = _SCHEMA


def write_manifest(
    folder: Path, kind: str, names: list[str], parents: dict[str, str], details: dict[str, Any]
) -> Manifest:
    """Digest the files `names` of `folder` and write its manifest, the last act of a stage."""
    files = {
        name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(names)
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(kind, files, parents, details, created)
    atomic_write_json(folder / MANIFEST_NAME, asdict(manifest))
    return manifest


def read_manifest(folder: Path, kind: str, verify: bool = False) -> Manifest:
    """Read a folder's manifest; with `verify`, compare every file's digest.

    Raises `NotFoundError` where there is none (unfinished or foreign folder) and `BadFileError` where it is
    damaged, of another kind, or a file differs from what it says.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise NotFoundError(f"{folder}: no {MANIFEST_NAME}, so this is no finished {kind}",
                            "run the command that makes it again; it resumes where it stopped")  # fmt: skip
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**content)
    except (ValueError, TypeError) as error:
        raise BadFileError(path, "", f"not a manifest ({error})", "make the folder again") from error
    if manifest.kind != kind:
        raise BadFileError(path, "kind", f"is a {manifest.kind!r}, not a {kind!r}", "name another folder")
    if verify:
        _verify(folder, manifest)
    return manifest


def _verify(folder: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BadFileError(path, "", "is missing, but the manifest names it", "restore or remake it")
        if sha256_file(path) != entry["sha256"]:
            raise BadFileError(path, "", "differs from its manifest", "restore it or make it again")
