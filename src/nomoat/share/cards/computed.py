"""The model card: computed from the files, with the owner's words kept.

    card = compute_card(folder)
    card.text()                          # README.md for the first push
    card.text(previous=readme_on_hub)    # later: what the owner wrote around it stays

What is computed stands between two marker comments; everything outside of them is the owner's. In the front matter
(Hugging Face's names) computed fields are set anew, and fields that the owner added stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomoat.base.plain_text import one_line
from nomoat.share.cards.body import card_body
from nomoat.share.cards.facts import CardFacts, gather_card_facts
from nomoat.share.cards.front_matter import split_front_matter, with_front_matter
from nomoat.share.cards.licences import hub_fields

__all__ = ["BEGIN", "END", "OWN_TEXT", "Card", "compute_card"]

BEGIN = "<!-- nomoat: computed from the files; text outside of these two lines is kept -->"
END = "<!-- nomoat: end -->"
OWN_TEXT = "own"
"""The licence of a dataset that its owner wrote, or may pass on for other reasons: a statement, not a licence."""
_LIBRARIES = {"adapter": "peft", "gguf": "gguf", "pipeline": "diffusers"}


@dataclass(frozen=True)
class Card:
    """`fields` is the computed front matter, `body` the computed text between the markers."""

    facts: CardFacts
    fields: Mapping[str, Any]
    body: str

    @property
    def licence(self) -> str:
        """As the front matter has it: Hugging Face's id, `other`, or nothing."""
        return str(self.fields.get("license") or "")

    @property
    def data_licence(self) -> str:
        """What is known of the licence of the training text; `own` where the owner has said that it is theirs."""
        return str(self.facts.dataset.get("licence") or "")

    def text(self, previous: str = "") -> str:
        """README.md. `previous` is what the hub (or the owner) has: prose and own fields of it stay.

        Raises `InputError` where its front matter cannot be read.
        """
        before, prose = split_front_matter(previous)
        fields = {**before, **self.fields}
        tags = [*self.fields["tags"], *(each for each in before.get("tags") or [] if isinstance(each, str))]
        fields["tags"] = list(dict.fromkeys(tags))
        return with_front_matter(fields, _around(prose or f"# {one_line(self.facts.name)}\n", self.body))


def compute_card(
    path: Path,
    *,
    licence: str = "",
    data_licence: str = "",
    previous: str = "",
    name: str = "",
    file_name: str = "",
    digests: Mapping[str, str] | None = None,
) -> Card:
    """The card of an adapter's folder or a model's file or folder. Raises `NotFoundError`, `BadFileError`.

    `licence` is what the owner gives it (else what the front matter of `previous` says, else the base's),
    `data_licence` what they state of the training text: an SPDX id, or `OWN_TEXT`. `name` is its title where the
    folder or file is called otherwise, `file_name` the path that a single file gets on the hub.
    `digests` are those of files that the caller has just read.
    """
    before = split_front_matter(previous)[0]
    facts = _renamed(gather_card_facts(path, digests), name, file_name)
    facts = _with_data_licence(facts, data_licence or _stated_data_licence(before))
    named = {name: before[name] for name in ("license", "license_name", "license_link") if before.get(name)}
    fields: dict[str, Any] = {
        **(hub_fields(licence) if licence else named or hub_fields(facts.licence)),
        **_base(facts),
        # Safetensors are of many libraries: of image LoRAs, too.
        "library_name": _LIBRARIES.get(facts.kind) or before.get("library_name") or "transformers",
        **({"pipeline_tag": "text-generation"} if facts.is_adapter or facts.kind == "gguf" else {}),
        "tags": _tags(facts),
        "nomoat": _own_block(facts),
    }
    return Card(facts, fields, card_body(facts, str(fields.get("license") or "")))


def _base(facts: CardFacts) -> dict[str, str]:
    """Hugging Face refuses a `base_model` that is no `owner/name`, such as a name of somebody's own store."""
    if facts.base_hub_id.count("/") != 1:
        return {}
    return {
        "base_model": facts.base_hub_id,
        "base_model_relation": "adapter" if facts.is_adapter else "quantized",
    }


def _tags(facts: CardFacts) -> list[str]:
    tags = ["nomoat"]
    if facts.is_adapter:
        tags = ["lora", *tags]
    if any(each.path.endswith(".gguf") for each in facts.weights):
        tags = ["gguf", "llama.cpp", *tags]
    relation = "adapter" if facts.is_adapter else "quantized"
    if facts.base_hub_id.count("/") == 1:
        tags = [f"base_model:{relation}:{facts.base_hub_id}", *tags]
    return tags


def _own_block(facts: CardFacts) -> dict[str, Any]:
    """What Hugging Face has no names for: for other hubs, and for whoever checks."""
    block: dict[str, Any] = {
        "schema": 1, "kind": facts.kind, "architecture": facts.architecture, "quantisation": facts.quantisation,
        "parameters": facts.parameters,
        "weights": {each.path: {"digest": each.digest, "size_bytes": each.size_bytes, "tensors": each.tensors}
                    for each in facts.weights},
    }  # fmt: skip
    if facts.is_adapter:
        block |= {
            "base_digest": facts.base_digest, "base_name": facts.base_name, "base_licence": facts.licence,
            "r": facts.r, "lora_alpha": facts.lora_alpha, "target_modules": list(facts.target_modules),
            "dataset": dict(facts.dataset), "scores": dict(facts.scores),
            "forgetting": dict(facts.forgetting) if facts.forgetting else "not measured",
            "audit": dict(facts.audit) if facts.audit else "not measured",
        }  # fmt: skip
    return {name: value for name, value in block.items() if value not in ("", None, {}, [])}


def _renamed(facts: CardFacts, name: str, file_name: str) -> CardFacts:
    weights = facts.weights
    if file_name and len(weights) == 1:
        weights = (replace(weights[0], path=file_name),)
    return replace(facts, name=name or facts.name, weights=weights)


def _with_data_licence(facts: CardFacts, stated: str) -> CardFacts:
    if not stated or not facts.is_adapter:
        return facts
    return replace(facts, dataset={**facts.dataset, "licence": stated})


def _stated_data_licence(fields: Mapping[str, Any]) -> str:
    block = fields.get("nomoat")
    dataset = block.get("dataset") if isinstance(block, dict) else None
    return str(dataset.get("licence") or "") if isinstance(dataset, dict) else ""


def _around(prose: str, body: str) -> str:
    """The computed text in its place: between the markers, or at the end where there are none."""
    computed = f"{BEGIN}\n\n{body.strip()}\n\n{END}"
    start, end = prose.find(BEGIN), prose.find(END)
    if 0 <= start < end:
        return prose[:start] + computed + prose[end + len(END) :]
    return f"{prose.rstrip()}\n\n{computed}\n"
