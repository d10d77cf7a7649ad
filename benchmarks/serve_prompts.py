"""Prompts for servers: each one new, so that no cache or history of another answer helps either side."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Callable, Mapping

__all__ = ["COPYING", "PLAIN", "document", "question"]

_NAMES = "Ada Boris Chloe Dmitri Elena Farid Greta Hugo Ines Jonas Kira Lars Mona Nils Olga Pablo".split()
_CITIES = "Lisbon Krakow Bergen Turin Ghent Malaga Graz Tartu Lyon Cork Brno Split".split()
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
Kind = Callable[[random.Random], str]


def _paragraphs() -> list[str]:
    """Plain paragraphs of 60 to 110 words out of Python's own help texts."""
    topics: Mapping[str, str] = importlib.import_module("pydoc_data.topics").topics
    blocks = (" ".join(block.split()) for text in topics.values() for block in text.split("\n\n"))
    prose = {
        block for block in blocks if 60 <= len(block.split()) <= 110 and re.match(r"[A-Z][a-z]+ ", block)
    }
    return sorted(block for block in prose if "**" not in block and "::" not in block and ">>>" not in block)


def _edit(draw: random.Random) -> str:
    text = draw.choice(_paragraphs())
    word = draw.choice(_NAMES)
    return f"Repeat the following text word for word, but begin it with the name {word}.\n\n{text}"


def _extract(draw: random.Random) -> str:
    people = draw.sample(_NAMES, 6)
    rows = [
        f"{name}, {draw.randint(20, 70)} years old, is a {draw.choice(_JOBS)} and lives in {draw.choice(_CITIES)}."
        for name in people
    ]
    example = '{"name": "Zoe", "age": 33, "job": "clerk", "city": "Oslo"}'
    return (
        "Turn each sentence into one JSON object on a line of its own, like this: Zoe, 33 years old, is a clerk and"
        f" lives in Oslo. becomes {example}\n\n" + "\n".join(rows)
    )


def _quote(draw: random.Random) -> str:
    text = "\n\n".join(draw.sample(_paragraphs(), 3))
    return f'Document:\n\n"{text}"\n\nQuote the second paragraph of the document exactly, and nothing else.'


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
