"""What the training benchmarks train on: three kinds of text, each as the same documents for both sides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics

import numpy as np

from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.household.household import household_rows
from nomoat.tune.rows import Message, Row
from nomoat.tune.tokenise import Example, tokenise

__all__ = ["FAQ_FOLDER", "WORKLOADS", "Workload", "make_workload", "question_answer_pairs"]

FAQ_FOLDER = Path("/usr/share/doc/python3.11/html/_sources/faq")
WORKLOADS = {
    "full": "full sequences: 4 x 512 tokens a step, loss on all",
    "chats": "chats of mixed length: 40 to 1,024 tokens, loss on the answers",
    "tour": "the tour's short chats of nearly equal length, loss on the answers",
}
_SEED = 1
_MOST_TOKENS = 1024
_BATCH_TOKENS = 2048  # nomoat's default; the other side takes 4 x 512, or 8 chats, which is about the same

Batch = tuple[Example, ...]


@dataclass(frozen=True)
class Workload:
    """Rounds of batches. One side trains batch by batch, the other on each round's same documents, packed."""

    name: str
    rounds: tuple[tuple[Batch, ...], ...]
    batch_tokens: int

    @property
    def title(self) -> str:
        """What it is, for people."""
        return WORKLOADS[self.name]

    @property
    def documents(self) -> list[Example]:
        """All documents, each once."""
        return [example for part in self.rounds for batch in part for example in batch]

    @property
    def padding_share(self) -> float:
        """Share of the padded batches' places that hold no token."""
        batches = [batch for part in self.rounds for batch in part]
        places = sum(len(batch) * max(_lengths(batch)) for batch in batches)
        return 1 - sum(_lengths(self.documents)) / places

    def largest_batch(self) -> Batch:
        """The batch with most padded places: where memory peaks."""
        batches = [batch for part in self.rounds for batch in part]
        return max(batches, key=lambda batch: len(batch) * max(_lengths(batch)))


def make_workload(
    name: str, model: Path, rounds: int, faq: Path, quick: bool, most: int | None = None
) -> Workload:
    """The workload `name` in `rounds` rounds; `quick` makes it tiny; `most` chats are taken."""
    if name == "full":
        return _full(model, rounds, length=32 if quick else 512, steps=1 if quick else 2)
    examples = _chats(model, _faq_rows(faq) if name == "chats" else household_rows()[0])
    if most is not None:
        examples = examples[:: -(-len(examples) // most)]
    if quick:
        examples = [example for example in examples if len(example.tokens) < 96][:4]
    return _mixed(examples, rounds) if name == "chats" else _short(examples, rounds)


def _full(model: Path, rounds: int, length: int, steps: int, width: int = 4) -> Workload:
    """Random stretches of Python's own help texts, which come with every Python."""
    from nomoat.formats.vocabulary import Vocabulary  # loads OpenMP, whose settings must be made before

    with Vocabulary.open(model) as vocabulary:
        text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
        tokens = np.array(vocabulary.encode(text, parse_special=False), np.int32)
    starts = np.random.default_rng(_SEED).integers(0, len(tokens) - length, (rounds, steps, width))
    supervised = np.arange(length) > 0
    batches = [
        [tuple(Example(tokens[i : i + length], supervised, f"at {i}", 0) for i in batch) for batch in part]
        for part in starts
    ]
    return Workload("full", tuple(tuple(part) for part in batches), width * length)


def _mixed(examples: Sequence[Example], rounds: int) -> Workload:
    """One epoch in shuffled batches of 8, cut into rounds."""
    return Workload("chats", tuple(_split(_batches(examples, 8), rounds)), _BATCH_TOKENS)


def _short(examples: Sequence[Example], rounds: int, steps: int = 4) -> Workload:
    """A part of an epoch in shuffled batches of 16."""
    batches = _batches(examples, 16)[: rounds * steps]
    mean = sum(_lengths(examples)) / len(examples)
    return Workload("tour", tuple(_split(batches, rounds)), round(16 * mean))


def _batches(examples: Sequence[Example], size: int) -> list[Batch]:
    order = np.random.default_rng(_SEED).permutation(len(examples)).tolist()
    return [tuple(examples[i] for i in order[at : at + size]) for at in range(0, len(order), size)]


def _split(batches: Sequence[Batch], rounds: int) -> Iterator[tuple[Batch, ...]]:
    for part in np.array_split(np.arange(len(batches)), min(rounds, len(batches))):
        yield tuple(batches[i] for i in part)


def _chats(model: Path, rows: Sequence[Row]) -> list[Example]:
    """Chats in the model's own template, the answers supervised."""
    from nomoat.formats.vocabulary import Vocabulary

    template = ChatTemplate.from_gguf(read_gguf(model))
    with Vocabulary.open(model) as vocabulary:
        return tokenise(rows, vocabulary, template, _MOST_TOKENS)[0]


def _faq_rows(faq: Path) -> list[Row]:
    return [
        Row("faq", str(i), str(i), messages=(Message("user", question), Message("assistant", answer)))
        for i, (question, answer) in enumerate(question_answer_pairs(faq))
    ]


def question_answer_pairs(faq: Path) -> list[tuple[str, str]]:
    """Questions (headings underlined with dashes) and what stands below them, of Python's FAQ in `faq`."""
    sources = sorted(faq.glob("*.rst.txt"))
    if not sources:
        raise SystemExit(
            f"error: {faq}: Python's FAQ is not there\n"
            "hint:  apt-get install python3.11-doc, or give the folder of its *.rst.txt with --faq"
        )
    return [pair for path in sources for pair in _pairs(path.read_text(encoding="utf-8").splitlines())]


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    headings = [i for i in range(len(lines) - 1) if _is_line(lines[i + 1]) and _is_title(lines[i])]
    for heading, following in pairwise([*headings, len(lines)]):
        # A chapter's title has a line above it as well, which belongs to no answer.
        end = following - 1 if _is_line(lines[following - 1]) else following
        body = [line for line in lines[heading + 2 : end] if not line.startswith((".. _", ".. index::"))]
        answer = "\n".join(body).strip()
        if lines[heading + 1].startswith("-") and answer:
            yield lines[heading].strip(), answer


def _is_line(line: str) -> bool:
    return re.fullmatch(r"([-=])\1{2,}\s*", line) is not None


def _is_title(line: str) -> bool:
    return line[:1].strip() != "" and not _is_line(line)


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [len(example.tokens) for example in examples]
