"""What a commit's files say of where they come from: its provenance, its card, its configuration, its GGUF header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from nomoat.base.plain_text import printable
from nomoat.share.names import is_digest
from nomoat.share.trust.provenance import PROVENANCE_NAME, Provenance

__all__ = ["CONFIG_NAME", "Edge", "EdgeState", "Relation", "edges_of_card", "edges_of_config", "edges_of_metadata",
           "edges_of_provenance", "merged"]  # fmt: skip

CONFIG_NAME = "adapter_config.json"
Relation = Literal["adapter", "quantized", "finetune", "merge", "dataset"]
EdgeState = Literal["verified", "declared", "unknown"]
_RELATIONS = {"adapter", "quantized", "finetune", "merge"}
_MOST_EDGES = 32
_LONGEST_NAME = 300


@dataclass(frozen=True)
class Edge:
    """From a file or repository to what it was made from. Empty names and digests are not known."""

    relation: Relation
    base_name: str
    base_digest: str
    state: EdgeState
    path: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


def edges_of_provenance(found: Provenance, here: Mapping[str, str | None]) -> list[Edge]:
    """Edges of a provenance, verified where its signer is known and its outputs are what lies in the repository."""
    same = [name for name, digest in found.outputs.items() if here.get(name) == digest]
    other = [name for name, digest in found.outputs.items() if here.get(name, digest) != digest]
    state: EdgeState = "verified" if found.signer and same and not other else "declared"
    evidence = {"provenance": PROVENANCE_NAME, "key_id": found.signer.key_id if found.signer else "",
                "outputs": sorted(same), "differ": sorted(other)}  # fmt: skip
    edges = [Edge("adapter", _clean(found.base_name), found.base_digest, state, PROVENANCE_NAME, evidence)]
    if "dataset" in found.data:
        edges.append(Edge("dataset", "", found.data["dataset"], state, PROVENANCE_NAME, evidence))
    return edges


def edges_of_card(card: Mapping[str, Any]) -> list[Edge]:
    """`base_model`, `base_model_relation`, `datasets` and nomoat's own pin, as in a card's front matter."""
    names, own = _texts(card.get("base_model")), card.get("nomoat")
    digest = str(own.get("base_digest", "")) if isinstance(own, dict) else ""
    digest = digest if is_digest(digest) else ""
    relation = card.get("base_model_relation")
    if relation not in _RELATIONS:
        relation = (
            "adapter" if card.get("library_name") == "peft" else "merge" if len(names) > 1 else "finetune"
        )
    edges = [Edge(cast(Relation, relation), name, digest, "declared", "README.md") for name in names]
    if digest and not names:
        edges.append(Edge(cast(Relation, relation), "", digest, "declared", "README.md"))
    return edges + [
        Edge("dataset", name, "", "declared", "README.md") for name in _texts(card.get("datasets"))
    ]


def edges_of_config(config: Mapping[str, Any]) -> list[Edge]:
    """The base that PEFT's adapter_config.json names."""
    name = config.get("base_model_name_or_path")
    # A path of the trainer's disk says nothing to anybody else.
    if not isinstance(name, str) or not name.strip() or name.startswith(("/", ".", "~")) or "\\" in name:
        return []
    return [Edge("adapter", _clean(name), "", "declared", CONFIG_NAME)]


def edges_of_metadata(path: str, metadata: Mapping[str, Any]) -> list[Edge]:
    """Keys as in the GGUF specification: general.base_model.count, .{i}.name, .{i}.repo_url."""
    edges = []
    count = metadata.get("general.base_model.count")
    for number in range(min(count, _MOST_EDGES) if isinstance(count, int) else 0):
        address = str(metadata.get(f"general.base_model.{number}.repo_url") or "")
        name = address.removeprefix("https://huggingface.co/").strip("/")
        name = name or str(metadata.get(f"general.base_model.{number}.name") or "")
        if name:
            edges.append(Edge("quantized", _clean(name), "", "declared", path))
    return edges


def merged(proven: list[Edge], declared: list[Edge]) -> list[Edge]:
    """A proven edge takes the name that people know its base by; nothing is said twice."""
    base = next((edge for edge in proven if edge.relation == "adapter" and edge.base_digest), None)
    edges = list(proven)
    for edge in declared:
        if base is not None and edge.relation == "adapter" and edge.base_digest in {"", base.base_digest}:
            if edge.base_name and edge.path == "README.md":
                edges = [replace(each, base_name=edge.base_name) if each is base else each for each in edges]
                base = next(each for each in edges if each.relation == "adapter" and each.base_digest)
        elif not any(_same(edge, each) for each in edges):
            edges.append(edge)
    return edges


def _same(one: Edge, other: Edge) -> bool:
    if one.base_digest and other.base_digest:
        return one.base_digest == other.base_digest and one.relation == other.relation
    return (one.relation == "dataset") == (other.relation == "dataset") and one.base_name == other.base_name


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [_clean(each) for each in values if isinstance(each, str) and _clean(each)]
    return list(dict.fromkeys(texts))[:_MOST_EDGES]


def _clean(text: str) -> str:
    """What a database and a page can hold: no control characters, no halves of characters, and not too much."""
    return printable(text).strip()[:_LONGEST_NAME]
