"""150 invented facts about ten people, as rows and as a folder of ordinary JSONL files.

The folder takes the same way as an owner's folder: nothing in training knows that it is the sample.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from nomoat.base.files import atomic_write
from nomoat.tune.dataset import row_from_document
from nomoat.tune.importers.document import Document
from nomoat.tune.rows import Message, Question, Row

__all__ = ["HELD_OUT_NAME", "TRAIN_NAME", "household_rows", "write_household"]

TRAIN_NAME = "household.jsonl"
HELD_OUT_NAME = "held_out.jsonl"


def household_rows() -> tuple[list[Row], list[Question]]:
    """600 chats to learn from (4 phrasings of each fact) and 150 questions in a fifth one."""
    train = [
        row_from_document(
            Document(
                TRAIN_NAME, "chat", messages=(Message("user", asked), Message("assistant", told)), line=line
            )
        )
        for line, (asked, told) in enumerate(_train_pairs(), 1)
    ]
    held_out = [
        Question(record["prompt"], record["value"], record["topic"], HELD_OUT_NAME)
        for record in _held_out_records()
    ]
    return train, held_out


def write_household(folder: Path) -> None:
    """Write the sample as `household.jsonl` and `held_out.jsonl`, both of prompt/completion lines."""
    train = ({"prompt": asked, "completion": told} for asked, told in _train_pairs())
    atomic_write(folder / TRAIN_NAME, _lines(train))
    atomic_write(folder / HELD_OUT_NAME, _lines(_held_out_records()))


def _train_pairs() -> Iterator[tuple[str, str]]:
    """Question and answer, phrasing by phrasing, so that equal answers lie far apart."""
    content = _content()
    for phrasing in range(len(content["topics"][0]["train"])):
        for topic in content["topics"]:
            for name, value in zip(content["people"], topic["values"], strict=True):
                yield (
                    topic["train"][phrasing].format(name=name),
                    topic["answer"].format(name=name, value=value),
                )


def _held_out_records() -> Iterator[dict[str, str]]:
    content = _content()
    for topic in content["topics"]:
        for name, value in zip(content["people"], topic["values"], strict=True):
            yield {
                "prompt": topic["held_out"].format(name=name),
                "completion": topic["answer"].format(name=name, value=value),
                "value": value,
                "topic": topic["name"],
            }


def _content() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("household.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _lines(records: Iterator[dict[str, str]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
