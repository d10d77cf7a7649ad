"""What speaks against sharing: the licences, what an audit found, and secrets in the text. Each can be overridden.

found = objections(folder, card)
require_permission(found, allowed={"data-licence"})      # RefusedError unless all are allowed by their code
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nomoat.share.cards.computed import OWN_TEXT, Card
from nomoat.share.cards.licences import find_licence, most_binding
from nomoat.share.cards.secrets import Finding, find_secrets
from nomoat.share.errors import RefusedError

__all__ = ["CODES", "Objection", "objections", "require_permission"]

CODES = {
    "base-licence": "the base's licence does not let you pass this on, or nobody knows which it has",
    "licence-conflict": "the licence that you give it is not one that the base's or the text's licence allows",
    "data-licence": "the training text's licence is not stated, or does not let you pass on what was made from it",
    "own-text": "files are going along that quote the training text",
    "memorised": "the adapter repeats training texts word for word",
    "secret": "a key or password would be given away",
    "personal-data": "an address, a telephone number or a bank account would be given away",
}
"""Codes for `--allow`, and what each stands for."""
_TEXT = {".md", ".txt", ".json", ".jsonl", ".html", ".toml", ".yaml", ".yml", ".csv"}
_QUOTING = ("dataset/", "report.json", "report.html", "train.jsonl", "valid.jsonl")
_MOST_PLACES = 5
_MOST_BYTES = 256 << 20
_REPORT_NAME = "report.json"


@dataclass(frozen=True)
class Objection:
    """`code` is one of `CODES`, `reason` a sentence, `override` what to do who wants it all the same."""

    code: str
    reason: str
    override: str

    def as_json(self) -> dict[str, str]:
        """Its fields."""
        return dict(vars(self))


def objections(
    path: Path, card: Card, files: Sequence[str] | None = None, prose: str = ""
) -> list[Objection]:
    """Everything that speaks against passing on `files` (None: all) of the folder, or the file, `path`.

    `prose` is the owner's text for the card where it does not lie in the folder.
    """
    found = [*_of_the_base(card), *_of_the_licence(card), *_of_the_data(card), *_of_the_audit(card)]
    going = _going_along(path, files)
    found += _of_quotes(going)
    root = path if path.is_dir() else path.parent
    return [*found, *_of_the_text([*_findings(root, going), *_in_prose(prose)])]


def require_permission(found: Iterable[Objection], allowed: Collection[str] = ()) -> None:
    """Raise `RefusedError` with every reason, unless the code of each objection is allowed."""
    left = [each for each in found if each.code not in allowed]
    if left:
        reasons = "\n".join(f"  {each.code}: {each.reason}" for each in left)
        codes = " ".join(f"--allow {code}" for code in dict.fromkeys(each.code for each in left))
        remedies = "; ".join(dict.fromkeys(each.override for each in left))
        raise RefusedError(
            f"this should not be shared as it is:\n{reasons}", f"{remedies}; or consciously: {codes}"
        )


def _of_the_base(card: Card) -> Iterator[Objection]:
    facts = card.facts
    what, stated = (
        ("the base model", facts.licence)
        if facts.is_adapter
        else ("the model", facts.licence or card.licence)
    )
    licence = find_licence(stated)
    if not stated:
        yield Objection(
            "base-licence", f"{what} states no licence", "find out which one it has, and say --licence ID"
        )
    elif licence is None and facts.is_adapter:
        reason = f"{what} is under {stated!r}, whose terms are not known here"
        yield Objection("base-licence", reason, "read whether they let you pass on what is made from it")
    elif licence is not None and facts.is_adapter and not licence.derive:
        reason = f"{what} is under {licence.id}, which forbids passing on what is made from it"
        yield Objection("base-licence", reason, "choose another base")
    elif licence is not None and not licence.redistribute:
        yield Objection("base-licence", f"{licence.id} forbids passing it on", "keep it to yourself")


def _of_the_licence(card: Card) -> Iterator[Objection]:
    own = str(card.fields.get("license_name") or card.licence)
    for source in (card.facts.licence, card.data_licence):
        if reason := most_binding(source, own):
            yield Objection("licence-conflict", f"{reason}, not {own}", f"give it --licence {source}")


def _of_the_data(card: Card) -> Iterator[Objection]:
    if not card.facts.is_adapter or card.data_licence == OWN_TEXT:
        return
    stated = card.data_licence
    licence = find_licence(stated)
    if not stated or stated.lower() == "private":
        reason = "the training text is private" if stated else "the training text's licence is not stated"
        yield Objection(
            "data-licence", reason, f"say --data-licence ID, or {OWN_TEXT} if the text is yours to share"
        )
    elif licence is not None and not licence.derive:
        reason = f"the training text is under {licence.id}, which forbids passing on what is made from it"
        yield Objection("data-licence", reason, "train on other text")
    elif licence is not None and not licence.commercial and not card.licence:
        reason = f"the training text is under {licence.id}, and the adapter has no licence that says so"
        yield Objection("data-licence", reason, f"give it --licence {licence.id}")


def _of_the_audit(card: Card) -> Iterator[Objection]:
    audit = card.facts.audit or {}
    memorised, tested = audit.get("memorised"), audit.get("tested")
    if isinstance(memorised, int) and memorised > 0:
        reason = f"the audit found {memorised} of {tested} training texts continued word for word"
        yield Objection("memorised", reason, "train for fewer epochs, or leave these texts out")


def _of_quotes(going: Sequence[str]) -> Iterator[Objection]:
    quoting = [name for name in going if name.startswith(_QUOTING)]
    if quoting:
        yield Objection(
            "own-text", f"{', '.join(quoting[:_MOST_PLACES])} quote the training text", "leave them out"
        )


def _of_the_text(findings: Iterable[tuple[str, str, Finding]]) -> Iterator[Objection]:
    places: dict[str, list[str]] = {"secret": [], "personal-data": []}
    for name, where, finding in findings:
        code = "secret" if finding.kind == "secret" else "personal-data"
        places[code].append(f"{finding.what} ({finding.shown}) in {where}{name} line {finding.line}")
    for code, found in places.items():
        if found:
            more = f", and {len(found) - _MOST_PLACES} more" if len(found) > _MOST_PLACES else ""
            yield Objection(
                code, "; ".join(found[:_MOST_PLACES]) + more, "take it out, and train again without it"
            )


def _in_prose(prose: str) -> Iterator[tuple[str, str, Finding]]:
    yield from (("the card", "", finding) for finding in find_secrets(prose.splitlines()))


def _findings(root: Path, going: Sequence[str]) -> Iterator[tuple[str, str, Finding]]:
    """Of files that go along, of answers of the adapter, and of the text that it may have memorised."""
    for name in going:
        if Path(name).suffix.lower() in _TEXT:
            yield from ((name, "", finding) for finding in _in_file(root / name))
    if _REPORT_NAME not in going:
        answers = _answers(root / _REPORT_NAME)
        yield from (
            (_REPORT_NAME, "an answer of the adapter, ", finding) for finding in find_secrets(answers)
        )
    for name in ("dataset/train.jsonl", "dataset/valid.jsonl"):
        if name not in going and (root / name).is_file():
            yield from ((name, "the training text, ", finding) for finding in _in_file(root / name))


def _in_file(path: Path) -> Iterator[Finding]:
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        yield from islice(find_secrets(lines), 1000)


def _answers(path: Path) -> list[str]:
    """What the adapter answered when it was tested: it has said so once, and will again."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return []
    samples = content.get("samples") if isinstance(content, dict) else None
    return [str(each.get("after", "")).replace("\n", " ") for each in samples or [] if isinstance(each, dict)]


def _going_along(path: Path, files: Sequence[str] | None) -> list[str]:
    if files is not None:
        return list(files)
    if path.is_file():
        return [path.name]
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
