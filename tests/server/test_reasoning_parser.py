"""What a model thinks is told apart from its answer, however the text comes in parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.server.reasoning import ReasoningParser

CASES = [
    ("<think>\nA river is water.\n</think>\n\nThe Rhine.", False, "A river is water.", "The Rhine."),
    ("A river is water.\n</think>\n\nThe Rhine.", True, "A river is water.", "The Rhine."),
    ("\n<think></think>The Rhine.\n", False, "", "The Rhine.\n"),
    ("The Rhine.", False, "", "The Rhine."),
    ("  <b>The</b> <think>no</think>", False, "", "  <b>The</b> <think>no</think>"),
    ("<think>a < b </thin </think> c </think>", False, "a < b </thin", "c </think>"),
    ("<think> cut off \n", False, "cut off", ""),
    ("cut off </thi", True, "cut off </thi", ""),
    ("<thi", False, "", "<thi"),
    ("", True, "", ""),
]


def parsed(parts: list[str], begun: bool) -> tuple[str, str]:
    parser = ReasoningParser(begun)
    pieces = [piece for part in parts for piece in parser.push(part)] + parser.finish()
    reasoning = "".join(text for is_reasoning, text in pieces if is_reasoning)
    return reasoning, "".join(text for is_reasoning, text in pieces if not is_reasoning)


@pytest.mark.parametrize(("text", "begun", "reasoning", "answer"), CASES)
def test_reasoning_comes_first_and_apart(text: str, begun: bool, reasoning: str, answer: str) -> None:
    assert parsed([text], begun) == (reasoning, answer)
    assert parsed(list(text), begun) == (reasoning, answer)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 60)))
def test_parts_of_any_size_say_the_same(case: tuple[str, bool, str, str], cuts: list[int]) -> None:
    text, begun, reasoning, answer = case
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[start:end] for start, end in pairwise(places)]
    assert parsed(parts, begun) == (reasoning, answer)


def test_reasoning_passes_while_it_is_written() -> None:
    parser = ReasoningParser()
    assert parser.push("<think>A river") == [(True, "A river")]
    assert parser.push(" is ") == [(True, " is")]
    assert parser.thinking
    assert parser.push("</think>") == []
    assert not parser.thinking
