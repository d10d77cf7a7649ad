"""Licences by their SPDX or Hugging Face id, and what they let people do. The table is `licences.toml`."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Licence", "find_licence", "hub_fields", "most_binding"]

_TABLE = Path(__file__).with_name("licences.toml")


@dataclass(frozen=True)
class Licence:
    """`pass_on` means that whatever is derived must have the same licence."""

    id: str
    hub: str
    redistribute: bool
    derive: bool
    commercial: bool
    pass_on: bool


def find_licence(text: str) -> Licence | None:
    """The licence of that id, whatever its case; None for one that the table does not know."""
    return _table().get(text.strip().lower())


def hub_fields(text: str) -> dict[str, str]:
    """`license`, and `license_name` where Hugging Face has no id for it; nothing for nothing."""
    licence = find_licence(text)
    if licence is not None:
        return {"license": licence.hub}
    if not text.strip():
        return {}
    name = re.sub(r"[^a-z0-9.+-]+", "-", text.strip().lower()).strip("-")[:80]
    return {"license": "other", "license_name": name or "unknown"}


def most_binding(base: str, own: str) -> str:
    """Why what is derived from a work under `base` cannot be under `own`; empty where it can, or nobody knows."""
    of, wanted = find_licence(base), find_licence(own)
    if of is None or wanted is None or of.hub == wanted.hub:
        return ""
    if of.pass_on:
        return f"what is made from a work under {of.id} must be under {of.id}, too"
    if not of.commercial and wanted.commercial:
        return f"{of.id} does not let others earn with it, and {wanted.id} would"
    return ""


@functools.cache
def _table() -> Mapping[str, Licence]:
    content = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    found: dict[str, Licence] = {}
    for name, row in content.items():
        licence = Licence(name, row.pop("hub", name.lower()), **row)
        found[name.lower()] = licence
        found.setdefault(licence.hub, licence)
    return found
