"""Prompts for servers: each one new, so that no cache or history of another answer helps either side."""

from __future__ import annotations

import importlib
import json
import random
import re
from collections.abc import Callable, Mapping

__all__ = ["COPYING", "PLAIN", "copied_share", "document", "question"]

_NAMES = "Ada Boris Chloe Dmitri Elena Farid Greta Hugo Ines Jonas Kira Lars Mona Nils Olga Pablo".split()
_CITIES = "Lisbon Krakow Bergen Turin Ghent Malaga Graz Tartu Lyon Cork Brno Split".split()
_BUILDINGS = "lighthouse windmill castle watchtower belfry observatory".split()
_PARTS = "harbour station market river bridge school".split()
_JOBS = "baker nurse carpenter pilot librarian gardener welder teacher cook plumber".split()
_THINGS = "rivers tools birds spices instruments trees sports fabrics metals vegetables games fish".split()
_HEROES = (
    "lighthouse keeper,young fox,clockmaker,retired sailor,shy robot,beekeeper,postman,old miller".split(",")
)
_DEEDS = (
    "finds a door in the sea,loses a letter,learns to fly,hears a voice,meets a giant,builds a bridge".split(
        ","
    )
)
_MATTERS = (
    "why the sky is blue,how bread rises,what a mortgage is,how a bicycle stays upright,why leaves fall,"
    "what a virus is,how a fridge works,what inflation means,how bees make honey,why the sea is salty,how glass is made"
).split(",")
_RUN = 6
Kind = Callable[[random.Random], str]


def _paragraphs() -> list[str]:
    """Plain paragraphs of 60 to 110 words out of Python's own help texts."""
    topics: Mapping[str, str] = importlib.import_module("pydoc_data.topics").topics
    blocks = (" ".join(block.split()) for text in topics.values() for block in text.split("\n\n"))
    prose = {
        block for block in blocks if 60 <= len(block.split()) <= 110 and re.match(r"[A-Z][a-z]+ ", block)
    }
    return sorted(block for block in prose if "**" not in block and "::" not in block and ">>>" not in block)


def _facts(draw: random.Random) -> tuple[str, str]:
    """Eight invented sentences about a building, and the year in them."""
    place, person, other = draw.choice(_CITIES), draw.choice(_NAMES), draw.choice(_NAMES)
    year, steps, height = draw.randint(1700, 1990), draw.randint(60, 400), draw.randint(18, 70)
    sentences = [
        f"The {draw.choice(_BUILDINGS)} of {place} was built in {year} by {person} {other}son, a {draw.choice(_JOBS)}.",
        f"It stands on a hill above the {draw.choice(_PARTS)} and is {height} metres high.",
        f"A staircase with {steps} steps leads to a round room with {draw.randint(3, 12)} small windows.",
        f"In the great storm of {year + draw.randint(5, 60)} the roof was lost, and {draw.choice(_NAMES)} repaired it.",
        f"Today it belongs to the town, which paid {draw.randint(20, 900)} thousand crowns for it.",
        f"Visitors come on foot from the {draw.choice(_PARTS)}, a walk of {draw.randint(10, 50)} minutes.",
        f"It is open from {draw.randint(8, 11)} to {draw.randint(15, 19)} o'clock, except on Mondays.",
        f"The ticket costs {draw.randint(2, 15)} crowns, and children under {draw.randint(6, 14)} pay nothing.",
    ]
    return " ".join(sentences), str(year)


def _edit(draw: random.Random) -> str:
    text, year = _facts(draw)
    return (
        f"Rewrite this text exactly, but change {year} to {int(year) + 10} and Mondays to Fridays:\n\n{text}"
    )


def _extract(draw: random.Random) -> str:
    people = [
        {"name": name, "age": draw.randint(20, 70), "job": draw.choice(_JOBS), "city": draw.choice(_CITIES)}
        for name in draw.sample(_NAMES, 5)
    ]
    before, after = (
        f"{draw.randint(10, 23)}:{draw.randint(10, 59)} {text}" for text in ("received", "sent, no error")
    )
    lines = f"{before} from {draw.choice(_CITIES)}: {json.dumps({'people': people}, indent=2)}\n{after}"
    return f"This log holds a JSON object. Extract the JSON object and print it:\n\n{lines}"


def _quote(draw: random.Random) -> str:
    text, _ = _facts(draw)
    asked = "What does the document say about the building and its visitors?"
    return f"Question: {asked} Answer with the exact sentences of the document.\n\nDocument: {text}"


def _chat(draw: random.Random) -> str:
    return (
        f"{draw.choice(_NAMES)} asks: can you explain {draw.choice(_MATTERS)}, and {draw.choice(_MATTERS)}?"
    )


def _story(draw: random.Random) -> str:
    return f"Tell a story about a {draw.choice(_HEROES)} of {draw.choice(_CITIES)} who {draw.choice(_DEEDS)}."


def _list(draw: random.Random) -> str:
    count, things = draw.randint(15, 25), draw.choice(_THINGS)
    return f"List {count} {things} that {draw.choice(_NAMES)} should know, one line for each."


COPYING: dict[str, Kind] = {"edit a text": _edit, "extract JSON": _extract, "quote a document": _quote}
PLAIN: dict[str, Kind] = {"chat": _chat, "story": _story, "list": _list}


def document(seed: int, words: int) -> str:
    """Prose of about so many words that starts like no other seed's: nothing of it can be remembered."""
    draw = random.Random(seed)
    paragraphs = _paragraphs()
    draw.shuffle(paragraphs)
    text = f"Notes of {draw.choice(_NAMES)}, number {seed}. " + " ".join(paragraphs)
    return " ".join(text.split()[:words])


def question(draw: random.Random) -> str:
    """A short question about a document."""
    return f"What should {draw.choice(_NAMES)} of {draw.choice(_CITIES)} remember of these notes?"


def copied_share(prompt: str, answer: str) -> float:
    """How much of an answer stands in its prompt: the share of its runs of six words that do."""
    source, words = prompt.split(), answer.split()
    runs = {tuple(source[start : start + _RUN]) for start in range(len(source) - _RUN + 1)}
    own = [tuple(words[start : start + _RUN]) for start in range(len(words) - _RUN + 1)]
    return sum(run in runs for run in own) / len(own) if own else 0.0
