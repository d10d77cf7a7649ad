"""README.md of an adapter folder: the model card that Hugging Face and PEFT read.

It goes along when the adapter is shared, so it holds counts and figures and never a word of the owner's text,
no file's name and no path.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from nomoat.base.plain_text import one_line
from nomoat.tune.figures import bytes_text, duration
from nomoat.tune.report_facts import ReportFacts
from nomoat.tune.report_text import noun, result_rows, tell

__all__ = ["card_text", "counts_text", "front_matter"]

_TEMPLATE = Path(__file__).parent / "report_templates" / "card.md.j2"
# Where the Hub's identifier is not the SPDX one in small letters; any other licence is "other" with its name.
_HUB_LICENCES = {"gpl-3.0-only": "gpl-3.0", "lgpl-3.0-only": "lgpl-3.0", "agpl-3.0-only": "agpl-3.0"}
_KNOWN_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0",
    "mpl-2.0", "unlicense", "openrail", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma",
}  # fmt: skip


def card_text(facts: ReportFacts) -> str:
    """The card as Markdown with its YAML front matter."""
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML; what may hold foreign text passes through `code`.
    environment = Environment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    result = facts.result
    name = one_line(result.request.out.resolve().name).replace("`", "'")
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        front_matter=front_matter(facts), facts=facts, result=result, config=result.request.config,
        base=result.request.base, rows=result_rows(facts), verdict=tell(facts), name=name,
        documents=noun(facts, 2), counts_text=counts_text, duration=duration, bytes_text=bytes_text, code=_code,
        shell_base=shlex.quote(one_line(facts.base_label)), shell_name="./" + shlex.quote(name),
        python_base=json.dumps(facts.hub_id or "BASE"), python_name=json.dumps(name),
    )  # fmt: skip


def front_matter(facts: ReportFacts) -> str:
    """The YAML block, without its dashes. `base_model` is left out where the Hub's id is not known.

    The Hub refuses a card whose `base_model` is no id of it, such as a path or a name of someone's own store.
    """
    fields: dict[str, Any] = {}
    tags = ["lora", "gguf", "llama.cpp", "nomoat"]
    if facts.hub_id:
        fields["base_model"] = facts.hub_id
        fields["base_model_relation"] = "adapter"
        tags.insert(0, f"base_model:adapter:{facts.hub_id}")
    fields["library_name"] = "peft"
    fields.update(_licence(facts.result.request.base.licence))
    fields["pipeline_tag"] = "text-generation"
    fields["tags"] = tags
    return "\n".join(_yaml(name, value) for name, value in fields.items())


def counts_text(counts: dict[str, Any]) -> str:
    """`512 chats and 3 texts, 41,200 characters`."""
    kinds = [
        f"{counts[name]:,} {name if counts[name] != 1 else name[:-1]}"
        for name in ("chats", "texts")
        if counts[name]
    ]
    return f"{' and '.join(kinds) or 'nothing'}, {counts['characters']:,} characters"


def _licence(licence: str) -> dict[str, str]:
    if not licence.strip():
        return {}
    wanted = licence.strip().lower()
    wanted = _HUB_LICENCES.get(wanted, wanted)
    if wanted in _KNOWN_LICENCES or wanted in _HUB_LICENCES.values():
        return {"license": wanted}
    return {
        "license": "other",
        "license_name": re.sub(r"[^a-z0-9.+-]+", "-", wanted).strip("-")[:80] or "unknown",
    }


def _yaml(name: str, value: str | list[str]) -> str:
    if isinstance(value, list):
        return "\n".join([f"{name}:", *(f"  - {_scalar(item)}" for item in value)])
    return f"{name}: {_scalar(value)}"


def _scalar(text: str) -> str:
    """Plain where that is safe in YAML, else as JSON, which YAML reads."""
    return text if re.fullmatch(r"[A-Za-z][\w./+-]*", text, re.ASCII) else json.dumps(text)


def _code(text: str) -> str:
    """Text as a Markdown code span, whatever it holds."""
    plain = one_line(text).replace("`", "'")
    return f"`{plain}`"
