"""The computed part of a card as Markdown: tables of what was read from the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomoat.base.plain_text import one_line
from nomoat.share.cards.facts import CardFacts

__all__ = ["card_body"]

_NOT_MEASURED = "not measured"


def card_body(facts: CardFacts, licence: str) -> str:
    """Sections in Markdown. Whatever comes out of a file stands in a code span, so that it cannot be markup."""
    parts = [_section("What it is", _identity(facts))]
    if facts.is_adapter:
        parts.append(_section("Trained on", _training(facts)))
        parts.append(_section("Before and after", _scores(facts), ("", "before", "after")))
        parts.append(_section("Forgetting and memorising", _risks(facts)))
    parts.append(_section("Files", _files(facts), ("file", "digest", "bytes", "tensors")))
    parts.append(_section("Licence", _licence(facts, licence)))
    return "\n\n".join(part for part in parts if part)


def _identity(facts: CardFacts) -> list[tuple[str, ...]]:
    rows = [("architecture", _code(facts.architecture)), ("quantisation", _code(facts.quantisation)),
            ("parameters", f"{facts.parameters:,}")]  # fmt: skip
    if facts.is_adapter:
        rows += [
            ("base", _code(facts.base_hub_id or facts.base_name)),
            ("base file", _code(facts.base_digest) or "not recorded: only its shapes can be checked"),
            ("r", str(facts.r or "")),
            ("lora_alpha", "" if facts.lora_alpha is None else f"{facts.lora_alpha:g}"),
            ("target_modules", _code(", ".join(facts.target_modules))),
        ]
    elif facts.base_hub_id:
        rows.append(("made from", _code(facts.base_hub_id)))
    return [row for row in rows if row[1]]


def _training(facts: CardFacts) -> list[tuple[str, ...]]:
    data = facts.dataset
    rows = [(title, _counts(data[name])) for name, title in (("train", "to learn from"), ("valid", "held out"))
            if isinstance(data.get(name), dict)]  # fmt: skip
    if tokens := facts.scores.get("train_tokens"):
        rows.append(("tokens", f"{tokens:,} in {facts.scores.get('steps', 0):,} steps"))
    licence = str(data.get("licence") or "")
    stated = "the owner's own text" if licence == "own" else _code(licence)
    return [
        *rows,
        ("licence of the text", stated or "not stated"),
        ("digest", _code(str(data.get("digest") or ""))),
    ]


def _scores(facts: CardFacts) -> list[tuple[str, ...]]:
    before, after = facts.scores.get("before"), facts.scores.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [("held-out text", _NOT_MEASURED, _NOT_MEASURED)]
    rows: list[tuple[str, ...]] = [
        (title, _figure(before, name), _figure(after, name))
        for name, title in (("bits_per_byte", "bits per byte"), ("loss", "loss (nats per token)"))
    ]
    exact = facts.scores.get("exact")
    if isinstance(exact, dict):
        rows.append(("share of right answers", _estimate(exact.get("before")), _estimate(exact.get("after"))))
    return [*rows, ("verdict", "", str(facts.scores.get("verdict") or ""))]


def _risks(facts: CardFacts) -> list[tuple[str, ...]]:
    forgetting = _NOT_MEASURED
    if facts.forgetting:
        before, after = (_estimate(facts.forgetting.get(name)) for name in ("before", "after"))
        forgetting = f"{before} bits per byte of general text before, {after} after"
    audit = _NOT_MEASURED + ": an adapter can hold passages of its training text word for word"
    if facts.audit:
        audit = _audit(facts.audit)
    return [("general text forgotten", forgetting), ("training text given away", audit)]


def _audit(found: Mapping[str, Any]) -> str:
    tested, memorised = found.get("tested") or 0, found.get("memorised") or 0
    if not tested:
        return "no training text is long enough to be told from chance"
    return f"{memorised} of {tested} training texts continued verbatim"


def _files(facts: CardFacts) -> list[tuple[str, ...]]:
    return [(_code(each.path), _code(each.digest), f"{each.size_bytes:,}", f"{each.tensors:,}")
            for each in facts.weights]  # fmt: skip


def _licence(facts: CardFacts, licence: str) -> list[tuple[str, ...]]:
    rows = [("this work", _code(licence) or "not stated")]
    if facts.is_adapter:
        rows.append(("base model", _code(facts.licence) or "its file does not say"))
    return [*rows]


def _section(title: str, rows: list[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _counts(part: Mapping[str, Any]) -> str:
    kinds = [
        f"{part[name]:,} {name}"
        for name in ("chats", "texts")
        if isinstance(part.get(name), int) and part[name]
    ]
    return f"{' and '.join(kinds) or 'nothing'}, {part.get('characters', 0):,} characters"


def _figure(part: Mapping[str, Any], name: str) -> str:
    value, bounds = part.get(name), part.get(f"{name}_interval")
    if not isinstance(value, int | float):
        return _NOT_MEASURED
    if (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(isinstance(each, int | float) for each in bounds)
    ):
        return f"{value:.3g} ({bounds[0]:.3g} to {bounds[1]:.3g})"
    return f"{value:.3g}"


def _estimate(part: Any) -> str:
    value = part.get("estimate", part.get("bits_per_byte")) if isinstance(part, dict) else None
    return f"{value:.3g}" if isinstance(value, int | float) else _NOT_MEASURED


def _code(text: str) -> str:
    plain = one_line(text).replace("`", "'").replace("|", "/")
    return f"`{plain}`" if plain else ""
