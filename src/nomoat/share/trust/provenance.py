"""How an adapter came to be, as a signed statement: base, data, recipe, code and machine of a training run.

    bundle = sign_provenance(folder, key)                 # bytes for `provenance.json`
    found = read_provenance(bundle, [public_key])         # found.signer, found.base_digest, found.outputs

The statement is SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance) in the same kind of bundle as a signature.
It says what its signer claims. That the claim is true can be found out by running the recipe again, not by reading.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.share.names import is_digest
from nomoat.share.trust.envelope import open_bundle, seal, statement
from nomoat.share.trust.keys import PublicKey, SigningKey
from nomoat.store.adapters import ADAPTER_KIND

__all__ = ["PROVENANCE_NAME", "Provenance", "provenance_of", "read_provenance", "sign_provenance"]

PROVENANCE_NAME = "provenance.json"
"""The bundle's path in a repository."""
_PREDICATE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:nomoat:tune:v1"
_BUILDER = "urn:nomoat:cli"
_OUTPUTS = ("adapter.gguf", "adapter_model.safetensors", "adapter_config.json")
_EVIDENCE = ("report.json", "metrics.jsonl", "config.toml")
_RESULTS = ("before", "after", "change_bits_per_byte", "verdict", "verification", "train_tokens", "steps", "precision",
            "train_seconds")  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """A statement as it was read. `signer` is None where no trusted key signed it.

    `outputs` maps a file's name to its digest; `data` maps a role (dataset, train.jsonl, ...) to a digest.
    """

    signer: PublicKey | None
    claimed: str
    outputs: Mapping[str, str]
    base_name: str
    base_digest: str
    data: Mapping[str, str]
    statement: Mapping[str, Any]


def provenance_of(folder: Path) -> dict[str, Any]:
    """The statement on the finished adapter in `folder`, made by `nomoat tune`.

    Every file is compared with the manifest first. Names of the owner's files are left out. Raises `NotFoundError`
    and `BadFileError` as `read_manifest` does, `InputError` where nothing says what the adapter was trained on.
    """
    manifest = read_manifest(folder, ADAPTER_KIND, verify=True)
    outputs = [(name, manifest.files[name]["sha256"]) for name in _OUTPUTS if name in manifest.files]
    if not outputs or not is_digest(manifest.parents.get("base", "")):
        raise InputError(f"{folder}: its manifest does not say what was trained on what",
                         "only a folder that `nomoat tune` finished has a provenance")  # fmt: skip
    predicate = {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {"base": _base_name(manifest), "recipe": _recipe(folder)},
            "internalParameters": {"machine": manifest.details.get("machine", {})},
            "resolvedDependencies": [_resource(*each) for each in _dependencies(folder, manifest)],
        },
        "runDetails": {
            "builder": {"id": _BUILDER, "version": {"nomoat": _code_version(manifest)}},
            "metadata": _times(manifest),
            "byproducts": [_resource(name, manifest.files[name]["sha256"]) for name in _EVIDENCE
                           if name in manifest.files],
        },
        "nomoat": {"results": _results(manifest)},
    }  # fmt: skip
    return statement(outputs, _PREDICATE, predicate)


def sign_provenance(folder: Path, key: SigningKey) -> bytes:
    """The bundle of `provenance_of`, to be kept as `PROVENANCE_NAME` beside the adapter."""
    return seal(provenance_of(folder), key)


def read_provenance(bundle: bytes, trusted: Iterable[PublicKey]) -> Provenance:
    """What a bundle says. Raises `InputError` where it is none, was changed, or tells no base or output."""
    opened = open_bundle(bundle, trusted)
    content = opened.statement
    try:
        if content["predicateType"] != _PREDICATE:
            raise ValueError("of another kind")
        build = content["predicate"]["buildDefinition"]
        outputs = {str(each["name"]): f"sha256:{each['digest']['sha256']}" for each in content["subject"]}
        needed = {
            str(each["name"]): f"sha256:{each['digest']['sha256']}" for each in build["resolvedDependencies"]
        }
        base_name, base_digest = str(build["externalParameters"]["base"]), needed.pop("base")
        if not outputs or not all(map(is_digest, [base_digest, *outputs.values(), *needed.values()])):
            raise ValueError("a digest is missing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"it is no provenance of a training run ({error})",
                         "push the adapter again from the folder that `nomoat tune` made") from error  # fmt: skip
    return Provenance(opened.signer, opened.claimed, outputs, base_name, base_digest, needed, content)


def _dependencies(folder: Path, manifest: Manifest) -> Iterable[tuple[str, str]]:
    yield "base", manifest.parents["base"]
    if "dataset" not in manifest.parents:
        return
    yield "dataset", manifest.parents["dataset"]
    if (folder / "dataset" / MANIFEST_NAME).is_file():
        dataset = read_manifest(folder / "dataset", "dataset")
        for name in ("train.jsonl", "valid.jsonl"):
            if name in dataset.files:
                yield name, dataset.files[name]["sha256"]
        if "source" in dataset.parents:
            yield "source", dataset.parents["source"]


def _results(manifest: Manifest) -> dict[str, Any]:
    known = {name: manifest.details[name] for name in _RESULTS if name in manifest.details}
    # A figure that is no number was not measured; JSON proper has no word for it.
    results: dict[str, Any] = json.loads(json.dumps(known), parse_constant=lambda _: None)
    return results


def _recipe(folder: Path) -> dict[str, Any]:
    path = folder / "config.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFileError(path, "", f"is no recipe ({error})", "restore the folder of the run") from error


def _times(manifest: Manifest) -> dict[str, Any]:
    """When the run ended, and when it began if its duration is known."""
    ended = datetime.fromisoformat(manifest.created)
    seconds = manifest.details.get("seconds")
    times: dict[str, Any] = {"finishedOn": ended.isoformat()}
    if isinstance(seconds, int | float):
        times["startedOn"] = (ended - timedelta(seconds=seconds)).isoformat(timespec="seconds")
    return times


def _base_name(manifest: Manifest) -> str:
    """A name, never a path of the owner's disk."""
    return Path(str(manifest.details.get("base", ""))).name


def _code_version(manifest: Manifest) -> str:
    return str(manifest.details.get("made_by", "")).removeprefix("nomoat ") or "unknown"


def _resource(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
