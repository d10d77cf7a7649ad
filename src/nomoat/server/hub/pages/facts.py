"""What pages say of a repository in a few words: facts from the bytes, claims from the card, told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.server.hub.pages.opened import Opened
from nomoat.server.hub.pages.words import parameters, plural, size
from nomoat.share.registry.trees import Entry

__all__ = ["Permission", "Recipe", "Way", "claims_of", "facts_of", "permissions_of", "recipe_of", "trigger_words",
           "ways_to_use"]  # fmt: skip

_LONGEST, _LONGEST_PROMPT = 300, 8_000
_MOST_WORDS = 24


@dataclass(frozen=True)
class Permission:
    """One of the four things that an art model's maker allows or not."""

    allowed: bool
    words: str


@dataclass(frozen=True)
class Recipe:
    """How a picture was made, as its file says."""

    width: int
    height: int
    prompt: str
    negative_prompt: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Way:
    """A way to use a repository: a heading and commands."""

    title: str
    commands: str


def facts_of(opened: Opened) -> list[tuple[str, str]]:
    """Rows of name and value, computed from the bytes."""
    repo, files = opened.repo, opened.files
    rows = [
        ("Architecture", repo.architecture),
        ("Quantisation", repo.quantisation),
        ("Parameters", _parameters(repo.parameters)),
        ("Task", "" if repo.card.get("pipeline_tag") else repo.pipeline_tag),
        ("Size", f"{size(repo.size_bytes)} in {plural(len(files), 'file')}"),
    ]
    for entry in files if repo.artefact != "pipeline" else ():  # no part speaks for all of them
        rows += _file_facts(opened.facts_of(entry))
    seen: dict[str, str] = {}
    for name, value in rows:
        if value:
            seen.setdefault(name, value)
    return list(seen.items())


def _parameters(number: int | None) -> str:
    if not number:
        return ""
    return f"{parameters(number)} ({number:,})" if number >= 1000 else str(number)


def _file_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {"r": "Rank (r)", "lora_alpha": "Alpha", "context_length": "Context length", "tensors": "Tensors",
             "resolution": "Resolution", "rank": "Rank (r)", "alpha": "Alpha"}  # fmt: skip
    sources = [facts, *(value for value in facts.values() if isinstance(value, dict))]
    return [
        (words, f"{source[name]:,}" if isinstance(source[name], int) else str(source[name])[:_LONGEST])
        for source in sources
        for name, words in names.items()
        if isinstance(source.get(name), int | float | str) and not isinstance(source.get(name), bool)
    ]


def claims_of(opened: Opened) -> list[tuple[str, str]]:
    """Rows of what only the card says."""
    card = opened.repo.card
    languages = ", ".join(_texts(card.get("language")))
    rows = [
        ("Licence", opened.repo.licence),
        ("Base", opened.repo.base_model),
        ("Task", opened.repo.pipeline_tag if card.get("pipeline_tag") else ""),
        ("Library", opened.repo.library),
        ("Languages", languages),
        ("Training data", ", ".join(_texts(card.get("datasets")))),
    ]
    return [(name, value[:_LONGEST]) for name, value in rows if value]


def permissions_of(card: Mapping[str, Any]) -> list[Permission]:
    """The four permissions in words; empty where the card says nothing of them."""
    given = card.get("permissions")
    if not isinstance(given, dict):
        return []
    found = []
    for key, yes, no in (
        ("allowNoCredit", "Use it without naming the maker", "Name the maker when you use it"),
        ("allowDerivatives", "Change it and share the result", "Do not share changed versions or merges"),
        (
            "allowDifferentLicense",
            "Put changed versions under other terms",
            "Changed versions keep these terms",
        ),
    ):
        if key in given:
            allowed = given[key] is True or str(given[key]).lower() == "true"
            found.append(Permission(allowed, yes if allowed else no))
    if "allowCommercialUse" in given:
        found.append(_commercial(given["allowCommercialUse"]))
    return found


def _commercial(value: Any) -> Permission:
    kinds = {text.strip().strip("{}").lower() for text in _texts(value)}
    words = {
        "image": "sell pictures made with it", "rentcivit": "offer it on Civitai", "rent": "offer it as a service",
        "sell": "sell the model itself",
    }  # fmt: skip
    if kinds & {"true", "yes"}:
        return Permission(True, "Earn money with it")
    allowed = [text for kind, text in words.items() if kind in kinds]
    if not allowed:
        return Permission(False, "No commercial use")
    return Permission(True, "Earn money with it: " + ", ".join(allowed))


def trigger_words(opened: Opened) -> list[str]:
    """Words that call up what an image LoRA has learned."""
    card = opened.repo.card
    found: list[str] = []
    for key in ("trigger_words", "trigger_word", "trained_words", "instance_prompt", "activation_text"):
        found += _texts(card.get(key))
    for facts in opened.facts.values():
        found += _texts(facts.get("trigger_words"))
    return list(dict.fromkeys(text.strip()[:_LONGEST] for text in found if text.strip()))[:_MOST_WORDS]


def recipe_of(opened: Opened, entry: Entry) -> Recipe | None:
    """How a picture was made; None where it was not inspected."""
    found = opened.facts_of(entry).get("picture")
    if not isinstance(found, dict):
        return None
    names = {
        "sampler": "Sampler",
        "steps": "Steps",
        "cfg_scale": "CFG scale",
        "seed": "Seed",
        "model": "Model",
    }
    rows = [
        (words, str(found[name])[:_LONGEST])
        for name, words in names.items()
        if found.get(name) not in (None, "")
    ]
    width, height = (
        value if isinstance(value, int) else 0 for value in (found.get("width"), found.get("height"))
    )
    prompt, negative = (
        str(found.get(name) or "")[:_LONGEST_PROMPT] for name in ("prompt", "negative_prompt")
    )
    return Recipe(width, height, prompt, negative, rows)


def ways_to_use(opened: Opened, base: str) -> list[Way]:
    """Commands for this repository, for a hub at the address `base`."""
    repo = opened.repo
    host, name = base.partition("://")[2], str(repo.name)
    as_dataset = " --repo-type dataset" if repo.name.kind == "dataset" else ""
    ways = []
    ways.append(Way("nomoat", _nomoat(opened, host)))
    ways.append(Way("Hugging Face tools", f"export HF_ENDPOINT={base}\nhf download {name}{as_dataset}"))
    if code := _python(opened, name):
        ways.append(Way("Python", code))
    return ways


def _nomoat(opened: Opened, host: str) -> str:
    """What is neither a model to run nor an adapter goes into a folder."""
    repo = opened.repo
    pull = f"nomoat pull {host}/{'datasets/' if repo.name.kind == 'dataset' else ''}{repo.name}"
    if repo.artefact == "gguf":
        return f"{pull}\nnomoat run {host}/{repo.name}"
    if repo.artefact == "adapter":
        return f"{pull}\nnomoat run --adapter {repo.name.name}"
    return f"{pull} --to {repo.name.name}"


def _python(opened: Opened, name: str) -> str:
    repo = opened.repo
    if repo.artefact == "adapter":
        return f'from peft import AutoPeftModelForCausalLM\nmodel = AutoPeftModelForCausalLM.from_pretrained("{name}")'
    if repo.artefact == "image-lora":
        base = repo.base_model or "BASE"
        return (
            "from diffusers import DiffusionPipeline\n"
            f'pipe = DiffusionPipeline.from_pretrained("{base}")\npipe.load_lora_weights("{name}")'
        )
    if repo.artefact in {"pipeline", "diffusers"}:
        return f'from diffusers import DiffusionPipeline\npipe = DiffusionPipeline.from_pretrained("{name}")'
    return ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(item) for item in value if isinstance(item, str | int | float)]
    return [str(value)] if isinstance(value, str | int | float) and value != "" else []
