"""The model that an adapter was trained on: by which digest it asks for it, and where that is to be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nomoat.base.errors import BadFileError, NomoatError
from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.peft_config import CONFIG_NAME
from nomoat.formats.peft_folder import WEIGHTS_NAME
from nomoat.share.client.connection import Connection
from nomoat.share.names import is_digest
from nomoat.store.adapters import ADAPTER_KIND, GGUF_NAME

__all__ = ["base_digest", "base_on_hub", "declared_base"]

_MOST_HEADER_BYTES = 100 << 20


def base_digest(adapter: Path) -> str:
    """The digest of the base that an adapter's folder pins; empty where it names none."""
    if (adapter / MANIFEST_NAME).is_file():
        found = read_manifest(adapter, ADAPTER_KIND).parents.get("base", "")
    elif (adapter / GGUF_NAME).is_file():
        found = str(read_gguf(adapter / GGUF_NAME).metadata.get(BASE_DIGEST_KEY, ""))
    else:
        found = _safetensors_metadata(adapter / WEIGHTS_NAME).get(BASE_DIGEST_KEY, "")
    return found if is_digest(found) else ""


def declared_base(adapter: Path) -> str:
    """What an adapter's own configuration calls its base: a name without proof, or empty."""
    try:
        content = json.loads((adapter / CONFIG_NAME).read_text(encoding="utf-8"))
        return str(content.get("base_model_name_or_path") or "")[:200]
    except (OSError, ValueError, AttributeError):
        return ""


def base_on_hub(connection: Connection, digest: str) -> str | None:
    """The name by which the hub has a file of that digest; None where it has none, or cannot tell."""
    try:
        content, _ = connection.get(f"/api/nomoat/blobs/{quote(digest)}")
    except NomoatError:
        return None
    places = content.get("repos") if isinstance(content, dict) else None
    for place in places if isinstance(places, list) else []:
        repo, path = place.get("id") or place.get("repo"), place.get("path")
        if isinstance(repo, str) and isinstance(path, str) and path.endswith(".gguf"):
            return f"{connection.hub.host}/{repo}:{path}"
    return None


def _safetensors_metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > min(_MOST_HEADER_BYTES, path.stat().st_size):
            raise BadFileError(path, "byte 0", "is no safetensors file", "download the adapter again")
        try:
            found = json.loads(handle.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError) as error:
            raise BadFileError(
                path, "byte 8", f"has no header ({error})", "download the adapter again"
            ) from error
    return found if isinstance(found, dict) else {}
