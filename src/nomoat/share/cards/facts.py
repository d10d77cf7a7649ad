"""What the files of a model or an adapter say of it, gathered for its card. Nothing of the owner's text, no path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.store.adapters import ADAPTER_KIND, AUDIT_NAME, GGUF_NAME
from nomoat.store.describe import quantisation_of

__all__ = ["CardFacts", "CardKind", "WeightFile", "gather_card_facts"]

CardKind = Literal["adapter", "gguf", "pipeline", "safetensors"]
_REPORT_NAME = "report.json"
_PIPELINE_NAME = "model_index.json"  # of a diffusion pipeline, as diffusers writes it
_MOST_JSON_BYTES = 64 << 20
_SPLIT = "split.no"


@dataclass(frozen=True)
class WeightFile:
    """A file with weights. `parameters` counts numbers, `types` maps a type of number to the tensors that have it."""

    path: str
    digest: str
    size_bytes: int
    tensors: int
    parameters: int
    types: Mapping[str, int]


@dataclass(frozen=True)
class CardFacts:
    """Empty, None and 0 mean: the files do not say. Scores are those of `nomoat tune`, in its names."""

    name: str
    kind: CardKind
    architecture: str
    quantisation: str
    parameters: int
    weights: tuple[WeightFile, ...]
    licence: str = ""
    """Of a model: its own. Of an adapter: its base's."""
    base_name: str = ""
    base_hub_id: str = ""
    base_digest: str = ""
    r: int | None = None
    lora_alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    forgetting: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    made_by: str = ""

    @property
    def is_adapter(self) -> bool:
        """Whether it needs a base."""
        return self.kind == "adapter"


def gather_card_facts(path: Path, digests: Mapping[str, str] | None = None) -> CardFacts:
    """Read a folder, or a GGUF or safetensors file. Raises `NotFoundError`, `BadFileError`.

    `digests` of files, by their paths in the folder, that the caller has just computed: those are not read again.
    """
    digests = digests or {}
    if path.is_file():
        return _model(path.stem, [_weight_file(path, path.parent, digests)], path.parent, {})
    if not path.is_dir():
        raise NotFoundError(f"{path}: no such file or folder", "name a model's file or an adapter's folder")
    if (path / CONFIG_NAME).is_file() or ((path / MANIFEST_NAME).is_file() and _has_lora(path)):
        return _adapter(path, digests)
    files = sorted(
        each for each in path.rglob("*") if each.suffix in {".gguf", ".safetensors"} and each.is_file()
    )
    if not files:
        raise NotFoundError(f"{path}: neither a GGUF nor a safetensors file is in it",
                            "name a folder with a model or an adapter")  # fmt: skip
    described = [_weight_file(each, path, digests) for each in files]
    found = _model(path.resolve().name, described, path, _json(path / "config.json"))
    pipeline = str(_json(path / _PIPELINE_NAME).get("_class_name") or "")
    return replace(found, kind="pipeline", architecture=pipeline) if pipeline else found


def _adapter(folder: Path, digests: Mapping[str, str]) -> CardFacts:
    manifest = read_manifest(folder, ADAPTER_KIND) if (folder / MANIFEST_NAME).is_file() else None
    gguf = read_gguf(folder / GGUF_NAME) if (folder / GGUF_NAME).is_file() else None
    config, report = _json(folder / CONFIG_NAME), _json(folder / _REPORT_NAME)
    details = _details(gguf)
    hub_id = str(report.get("base_model") or "") or _named_base(folder, config)
    weights = [folder / name for name in (WEIGHTS_NAME, GGUF_NAME) if (folder / name).is_file()]
    described = tuple(_weight_file(each, folder, digests) for each in weights)
    return CardFacts(
        name=folder.resolve().name, kind="adapter", architecture=gguf.architecture if gguf else "",
        quantisation=quantisation_of(gguf) if gguf else _majority(described),
        parameters=max((each.parameters for each in described), default=0), weights=described,
        licence=str(details.get("licence") or ""), base_name=str(details.get("base") or ""), base_hub_id=hub_id,
        base_digest=_base_digest(manifest, gguf), r=_whole(config.get("r")), lora_alpha=_alpha(config, gguf),
        target_modules=_target_modules(config, gguf), dataset=_dataset(folder, manifest, report),
        scores=_scores(manifest, report), forgetting=report.get("general") or None,
        audit=_audit(folder, described), made_by=str(details.get("made_by") or ""),
    )  # fmt: skip


def _model(name: str, described: list[WeightFile], root: Path, config: Mapping[str, Any]) -> CardFacts:
    ggufs = [read_gguf(root / each.path) for each in described if each.path.endswith(".gguf")]
    # Several quantisations of one model lie side by side, parts of one file belong together.
    parts = any(gguf.metadata.get(_SPLIT) is not None for gguf in ggufs) or not ggufs
    counts = [each.parameters for each in described]
    first = ggufs[0] if ggufs else None
    kinds = sorted({quantisation_of(gguf) for gguf in ggufs})
    licence = first.metadata.get("general.license") if first else ""
    return CardFacts(
        name=name, kind="gguf" if ggufs else "safetensors",
        architecture=first.architecture if first else _architecture(config),
        quantisation=", ".join(kinds) or _majority(described), parameters=sum(counts) if parts else max(counts),
        weights=tuple(described), licence=licence if isinstance(licence, str) else "",
        base_hub_id=_model_base(first),
    )  # fmt: skip


def _weight_file(path: Path, root: Path, digests: Mapping[str, str]) -> WeightFile:
    shapes = _gguf_shapes(path) if path.suffix == ".gguf" else _safetensors_shapes(path)
    types: dict[str, int] = {}
    parameters = tensors = 0
    for kind, n_elements in shapes:
        types[kind] = types.get(kind, 0) + 1
        tensors, parameters = tensors + 1, parameters + n_elements
    name = path.relative_to(root).as_posix()
    return WeightFile(
        name, digests.get(name) or sha256_file(path), path.stat().st_size, tensors, parameters, types
    )


def _gguf_shapes(path: Path) -> Iterable[tuple[str, int]]:
    return [(tensor.ggml_type.name, tensor.n_elements) for tensor in read_gguf(path).tensors.values()]


def _safetensors_shapes(path: Path) -> Iterable[tuple[str, int]]:
    try:
        with safe_open(path, "numpy") as handle:
            for name in handle.keys():
                part = handle.get_slice(name)
                n_elements = 1
                for width in part.get_shape():
                    n_elements *= width
                yield str(part.get_dtype()), n_elements
    except SafetensorError as error:
        raise BadFileError(
            path, "header", f"is damaged or cut short ({error})", "copy the file again"
        ) from error


def _has_lora(folder: Path) -> bool:
    path = folder / GGUF_NAME
    return path.is_file() and read_gguf(path).metadata.get("general.type") == "adapter"


def _base_digest(manifest: Manifest | None, gguf: GGUFFile | None) -> str:
    named = manifest.parents.get("base", "") if manifest else ""
    return named or (str(gguf.metadata.get(BASE_DIGEST_KEY) or "") if gguf else "")


def _named_base(folder: Path, config: Mapping[str, Any]) -> str:
    """As the card that lies there has it, else PEFT's configuration; a path on a disk is no name."""
    readme = folder / "README.md"
    fields = (
        split_front_matter(readme.read_text(encoding="utf-8", errors="replace"))[0]
        if readme.is_file()
        else {}
    )
    for value in (fields.get("base_model"), config.get("base_model_name_or_path")):
        if isinstance(value, str) and value and not value.startswith(("/", ".", "~")):
            return value
    return ""


def _model_base(gguf: GGUFFile | None) -> str:
    address = str(gguf.metadata.get("general.base_model.0.repo_url") or "") if gguf else ""
    return address.removeprefix("https://huggingface.co/").strip("/") if "huggingface.co/" in address else ""


def _details(gguf: GGUFFile | None) -> dict[str, Any]:
    try:
        content = json.loads(str(gguf.metadata.get("nomoat.details") or "{}")) if gguf else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _alpha(config: Mapping[str, Any], gguf: GGUFFile | None) -> float | None:
    value = config.get("lora_alpha", gguf.metadata.get("adapter.lora.alpha") if gguf else None)
    return float(value) if isinstance(value, int | float) else None


def _target_modules(config: Mapping[str, Any], gguf: GGUFFile | None) -> tuple[str, ...]:
    named = config.get("target_modules")
    if isinstance(named, list):
        return tuple(sorted(str(each) for each in named))
    if isinstance(named, str):
        return (named,)
    tensors = gguf.tensors if gguf else {}
    return tuple(
        sorted({name.removesuffix(".lora_a").split(".")[-2] for name in tensors if name.endswith(".lora_a")})
    )


def _dataset(folder: Path, manifest: Manifest | None, report: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, licence and digest; names of files are the owner's and stay out."""
    found = {
        name: report["dataset"][name] for name in ("train", "valid") if name in (report.get("dataset") or {})
    }
    if manifest and "dataset" in manifest.parents:
        found["digest"] = manifest.parents["dataset"]
    if (folder / "dataset" / MANIFEST_NAME).is_file():
        details = read_manifest(folder / "dataset", "dataset").details
        found |= {name: details[name] for name in ("train", "valid") if name in details}
        found["licence"] = str(details.get("licence") or "")
    return found


def _scores(manifest: Manifest | None, report: Mapping[str, Any]) -> dict[str, Any]:
    details = {**report, **(manifest.details if manifest else {})}
    names = ("before", "after", "change_bits_per_byte", "verdict", "verification", "train_tokens", "steps")
    found = {name: details[name] for name in names if details.get(name) is not None}
    return {**found, "exact": report["exact"]} if report.get("exact") else found


def _audit(folder: Path, weights: Iterable[WeightFile]) -> dict[str, Any] | None:
    """What an audit of these very weights found; one of other weights says nothing."""
    audit = _json(folder / AUDIT_NAME)
    digests = {each.digest for each in weights}
    return audit if audit and audit.get("adapter", next(iter(digests), "")) in digests else None


def _majority(files: Iterable[WeightFile]) -> str:
    totals: dict[str, int] = {}
    for each in files:
        for kind, count in each.types.items():
            totals[kind] = totals.get(kind, 0) + count
    return max(totals, key=lambda kind: totals[kind]) if totals else ""


def _architecture(config: Mapping[str, Any]) -> str:
    return str(config.get("model_type") or "")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _MOST_JSON_BYTES:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except ValueError as error:
        raise BadFileError(path, "", f"is no JSON ({error})", "restore the file, or remove it") from error
    return content if isinstance(content, dict) else {}
