"""How a thing looks as an OCI artifact, after CNCF ModelPack: a configuration, and each file as a layer of its own.

    oci-layout  index.json  blobs/sha256/<hex>

Layers are the files as they are: `org.cncf.model.filepath` says their names. Nothing holds a time, so that the same
thing always gives the same digests. Formats: OCI image-spec 1.1, github.com/modelpack/model-spec v1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nomoat.base.digests import sha256_bytes
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.share.things import Thing, ThingFile

__all__ = [
    "BASE",
    "FILE_PATH",
    "INDEX_NAME",
    "KIND",
    "LAYOUT_NAME",
    "MANIFEST_TYPE",
    "REF_NAME",
    "TITLE",
    "Packed",
    "index_json",
    "pack",
]

LAYOUT_NAME, INDEX_NAME = "oci-layout", "index.json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_WEIGHTS, _WEIGHTS_CONFIG, _DOCUMENT = (
    f"application/vnd.cncf.model.{part}.v1.raw" for part in ("weight", "weight.config", "doc")
)
FILE_PATH = "org.cncf.model.filepath"
REF_NAME, TITLE = "org.opencontainers.image.ref.name", "org.opencontainers.image.title"
_LICENCES = "org.opencontainers.image.licenses"
KIND, BASE = "nomoat.kind", BASE_DIGEST_KEY


@dataclass(frozen=True)
class Packed:
    """The small documents of a thing, and its entry in the index."""

    config: bytes
    manifest: bytes
    entry: dict[str, Any]


def pack(thing: Thing) -> Packed:
    """A thing as an OCI artifact; its files are the layers."""
    config = _encoded(_config(thing))
    notes = {TITLE: thing.name, KIND: thing.kind}
    notes |= {_LICENCES: thing.licence} if thing.licence else {}
    notes |= {BASE: thing.base_digest} if thing.base_digest else {}
    manifest = _encoded({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": _ARTIFACT_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": sha256_bytes(config), "size": len(config)},
        "layers": [_layer(file) for file in thing.files],
        "annotations": notes,
    })  # fmt: skip
    entry = {
        "mediaType": MANIFEST_TYPE, "artifactType": _ARTIFACT_TYPE, "digest": sha256_bytes(manifest),
        "size": len(manifest), "annotations": {REF_NAME: thing.name, KIND: thing.kind},
    }  # fmt: skip
    return Packed(config, manifest, entry)


def index_json(entries: list[dict[str, Any]]) -> bytes:
    """The index of these entries."""
    return _encoded({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries})


def _config(thing: Thing) -> dict[str, Any]:
    weights = [file.path for file in thing.files if _layer_type(file.path) == _WEIGHTS]
    facts = {
        "architecture": thing.architecture,
        "format": "gguf" if any(path.endswith(".gguf") for path in weights) else "safetensors",
        "quantization": thing.quantisation,
    }
    descriptor = {"name": thing.name, **({"licenses": [thing.licence]} if thing.licence else {})}
    return {
        "descriptor": descriptor,
        "config": {key: value for key, value in facts.items() if value},
        "modelfs": {"type": "layers", "diffIds": [file.digest for file in thing.files]},
    }


def _layer(file: ThingFile) -> dict[str, Any]:
    return {
        "mediaType": _layer_type(file.path), "digest": file.digest, "size": file.size_bytes,
        "annotations": {FILE_PATH: file.path, TITLE: file.path},
    }  # fmt: skip


def _layer_type(path: str) -> str:
    if path.endswith((".gguf", ".safetensors")):
        return _WEIGHTS
    return _DOCUMENT if path.endswith((".md", ".txt")) else _WEIGHTS_CONFIG


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
