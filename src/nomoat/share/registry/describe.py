"""What the gallery shows of a repository, computed from the files of its newest commit and from its card.

Where the bytes say something (architecture, quantisation, parameters), the card is not asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import update

from nomoat.base.errors import NotFoundError
from nomoat.share.errors import RefusedError
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.card import Card, read_card
from nomoat.share.registry.database import Database
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import repos
from nomoat.share.registry.trees import Entry

__all__ = ["describe", "describe_files"]

_MOST_README_BYTES = 2 << 20
_PICTURES = (".png", ".webp", ".jpg", ".jpeg")
_RATINGS = ("general", "mature", "explicit")
# Of several kinds of files the first of these says what the repository is.
_ARTEFACTS = ("pipeline", "image-lora", "adapter", "gguf", "safetensors")
_MOST_TAGS, _SUMMARY_LETTERS = 60, 200


def describe(database: Database, blobs: BlobRecords, repo: Repo, entries: Iterable[Entry]) -> None:
    """Compute the columns of `repo` from what is in its newest commit, and store them."""
    files = [entry for entry in entries if entry.is_file]
    known = blobs.facts_of([entry.digest for entry in files if entry.digest])
    facts = [(entry, known.get(entry.digest or "", {})) for entry in files]
    values = describe_files(repo.name.kind, facts, _card(blobs, files))
    with database.write() as connection:
        connection.execute(update(repos).where(repos.c.id == repo.id).values(**values))


def describe_files(kind: str, facts: Sequence[tuple[Entry, dict[str, Any]]], card: Card) -> dict[str, Any]:
    """The columns, from files with their facts and the card."""
    main = _main_facts(facts)
    data = card.data
    values: dict[str, Any] = {
        "artefact": _text(main.get("artefact"), 24),
        "architecture": _text(main.get("architecture"), 64),
        "quantisation": _text(main.get("quantisation"), 32),
        "parameters": main.get("parameters") if isinstance(main.get("parameters"), int) else None,
        "licence": _text(_first(data.get("license")), 64).lower(),
        "pipeline_tag": _text(data.get("pipeline_tag") or main.get("pipeline_tag"), 64),
        "library": _text(data.get("library_name"), 64),
        "base_model": _text(_first(data.get("base_model")), 200),
        "summary": _summary(card.prose),
        "picture": _picture(facts, data),
        "rating": _rating(data),
        "card": data,
    }
    values["library"] = values["library"] or _library(values["artefact"], [entry.path for entry, _ in facts])
    values["tags"] = _tags(kind, data, values)
    return values


def _main_facts(facts: Sequence[tuple[Entry, dict[str, Any]]]) -> dict[str, Any]:
    """Facts of the file that says most, by kind of artefact, then by size; what it leaves open others of its kind say.

    An adapter as safetensors does not name its architecture, the same one as GGUF beside it does.
    """
    known = [(entry, found) for entry, found in facts if found.get("artefact") in _ARTEFACTS]
    if not known:
        return {}
    chosen = min(known, key=lambda each: (_ARTEFACTS.index(each[1]["artefact"]), -each[0].size_bytes))[1]
    same = [found for _, found in known if found["artefact"] == chosen["artefact"]]
    architecture = next(filter(None, (found.get("architecture") for found in [chosen, *same])), "")
    if chosen["artefact"] == "pipeline":
        tag = next(filter(None, (found.get("pipeline_tag") for found in same)), "")
        return {**chosen, "architecture": architecture, "parameters": _of_parts(facts), "pipeline_tag": tag}
    if chosen["artefact"] == "safetensors" and len(same) > 1:  # one model in several files
        parameters = sum(found.get("parameters") or 0 for found in same)
        return {**chosen, "architecture": architecture, "parameters": parameters}
    return {**chosen, "architecture": architecture}


def _of_parts(facts: Iterable[tuple[Entry, dict[str, Any]]]) -> int | None:
    """Parameters of a pipeline: those of all its components, each counted once however often it was stored."""
    stored: dict[str, Counter[str]] = {}
    for entry, found in facts:
        folder, _, name = entry.path.rpartition("/")
        if folder and "/" not in folder and found.get("format") == "safetensors":
            # As in `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`.
            variant = re.sub(r"-\d+-of-\d+", "", name)
            stored.setdefault(folder, Counter())[variant] += found.get("parameters") or 0
    return sum(max(each.values()) for each in stored.values()) or None


def _card(blobs: BlobRecords, files: Iterable[Entry]) -> Card:
    """The card; an unreadable one counts as prose."""
    readme = next((entry for entry in files if entry.path.lower() == "readme.md"), None)
    if readme is None or not readme.digest or readme.size_bytes > _MOST_README_BYTES:
        return Card()
    try:
        with blobs.open(readme.digest) as reader:
            text = reader.read().decode("utf-8", "replace")
    except NotFoundError:
        return Card()
    try:
        return read_card(text)
    except RefusedError:
        return Card({}, text)


def _tags(kind: str, data: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Tags as Hugging Face composes them: the card's own, and one for each thing that clients filter by."""
    languages = [f"language:{each}" if kind == "dataset" else each for each in _texts(data.get("language"))]
    found = [
        values["library"],
        *([values["artefact"]] if values["artefact"] in {"gguf", "safetensors"} else []),
        *_texts(data.get("tags")),
        values["pipeline_tag"],
        *languages,
        *(
            f"{name}:{each}"
            for name in ("task_categories", "size_categories")
            for each in _texts(data.get(name))
        ),
        *(f"base_model:{each}" for each in _texts(data.get("base_model"))),
        *(f"dataset:{each}" for each in _texts(data.get("datasets"))),
        *(f"license:{each}" for each in _texts(data.get("license"))),
    ]
    return [tag[:100] for tag in dict.fromkeys(found) if tag][:_MOST_TAGS]


def _summary(prose: str) -> str:
    """The first paragraph of text, without marks: no heading, picture, list, table, code or HTML.

    Lines of a paragraph that were broken by hand are one; what is too long is cut at a word.
    """
    fenced, found = False, list[str]()
    for line in prose.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.strip())
        text = re.sub(r"[*_`]+", "", text)
        is_text = bool(text) and not fenced and line.strip()[:3] != "```" and text[0] not in "#!<|>-=+:["
        if found and not is_text:
            break
        if is_text and (found or re.search(r"[^\W\d_]{2}", text)):
            found.append(text)
    return _cut(" ".join(" ".join(found).split()))


def _cut(text: str) -> str:
    """At most `_SUMMARY_LETTERS`, cut at a word where one ends in time, with an ellipsis where it is cut."""
    if len(text) <= _SUMMARY_LETTERS:
        return text
    head, _, rest = text[:_SUMMARY_LETTERS].rpartition(" ")
    whole_words = head if len(rest) < _SUMMARY_LETTERS // 2 else ""
    return (whole_words or text[: _SUMMARY_LETTERS - 1]).rstrip(" ,;:-") + "…"


def _picture(facts: Sequence[tuple[Entry, dict[str, Any]]], data: dict[str, Any]) -> str:
    paths = {entry.path for entry, _ in facts if entry.path.lower().endswith(_PICTURES)}
    widget = data.get("widget")
    named = [data.get("thumbnail"), *(_output_url(each) for each in widget if isinstance(widget, list))] \
        if isinstance(widget, list) else [data.get("thumbnail")]  # fmt: skip
    wanted = (str(each) for each in named if each)
    return next(
        (path for path in wanted if path in paths),
        min(paths, key=lambda path: (path.count("/"), path), default=""),
    )


def _output_url(example: Any) -> str:
    output = example.get("output") if isinstance(example, dict) else None
    return str(output.get("url", "")) if isinstance(output, dict) else ""


def _rating(data: dict[str, Any]) -> str:
    rating = str(data.get("content_rating") or data.get("rating") or "").lower()
    if rating in _RATINGS:
        return rating
    return "mature" if "not-for-all-audiences" in _texts(data.get("tags")) else ""


def _library(artefact: str, paths: list[str]) -> str:
    if artefact == "pipeline" or "model_index.json" in paths:
        return "diffusers"
    if artefact == "adapter" or "adapter_config.json" in paths:
        return "peft"
    return "gguf" if artefact == "gguf" else "transformers" if "config.json" in paths else ""


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if isinstance(each, (str, int, float)) and str(each)]


def _first(value: Any) -> str:
    return next(iter(_texts(value)), "")


def _text(value: Any, most: int) -> str:
    return str(value)[:most] if isinstance(value, (str, int, float)) else ""
