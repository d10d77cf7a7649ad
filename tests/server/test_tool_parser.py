"""Tool calls are found however the text is cut, and nothing else is taken for one."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.server.tool_parser import ToolCallParser, ToolPiece
from nomoat.server.tools import Tool, ToolChoice, answer_grammar, with_tools

TOOLS = (Tool("weather", "Looks out of the window", {"type": "object"}), Tool("time"))
CALL = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "a } \\" b", "n": [1, {"x": 2}]}}\n</tool_call>'
)
ARGUMENTS = {"city": 'a } " b', "n": [1, {"x": 2}]}


def _read(text: str, cuts: list[int], parallel: bool = True) -> list[ToolPiece]:
    parser = ToolCallParser(TOOLS, parallel)
    pieces: list[ToolPiece] = []
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(places):
        pieces += parser.push(text[start:end])
    return pieces + parser.finish()


def _summary(pieces: list[ToolPiece]) -> tuple[str, list[tuple[str, str]]]:
    """The text, and each call's name with its whole arguments."""
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if piece.kind == "call":
            calls.append((piece.text, ""))
        elif piece.kind == "arguments":
            calls[piece.index] = (calls[piece.index][0], calls[piece.index][1] + piece.text)
    return "".join(piece.text for piece in pieces if piece.kind == "text"), calls


CASES = [
    ("just text", "just text", 0),
    ("a < b and <tool> c", "a < b and <tool> c", 0),
    (f"Let me see.\n{CALL}", "Let me see.", 1),
    (f"{CALL}\n{CALL}", "", 2),
    (f"{CALL}\n", "", 1),
    (f'{CALL}\n<tool_call>\n{{"name": "time", "arguments": {{}}', "", 2),
    ('<tool_call>{"arguments": {"a": 1}, "name": "time"}</tool_call>', "", 1),
    ('<tool_call>{"name": "time", "parameters": {}}', "", 1),
    ('<tool_call>{"name": "alien", "arguments": {}}</tool_call>!',
     '<tool_call>{"name": "alien", "arguments": {}}</tool_call>!', 0),
    ("<tool_call>no json", "<tool_call>no json", 0),
    ("ends with <tool_c", "ends with <tool_c", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown", "calls"), CASES, ids=range(len(CASES)))
@given(cuts=st.lists(st.integers(0, 300), max_size=8))
@settings(max_examples=40, deadline=None)
def test_calls_are_found_wherever_the_text_is_cut(text: str, shown: str, calls: int, cuts: list[int]) -> None:
    said, found = _summary(_read(text, cuts))
    assert said == shown
    assert len(found) == calls
    for _, arguments in found:
        assert isinstance(json.loads(arguments), dict)


def test_arguments_arrive_whole_and_in_parts() -> None:
    pieces = _read(CALL, list(range(len(CALL))))
    (call,) = _summary(pieces)[1]
    assert call[0] == "weather" and json.loads(call[1]) == ARGUMENTS
    assert sum(piece.kind == "arguments" for piece in pieces) > 5


def test_only_one_call_where_no_more_are_wanted() -> None:
    assert len(_summary(_read(f"{CALL}\n{CALL}", [], parallel=False))[1]) == 1


def test_a_conversation_with_tools_becomes_plain_text() -> None:
    call = {"id": "1", "name": "time", "arguments": "{}"}
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "noon"}, {"role": "tool", "content": "sharp"},
                {"role": "user", "content": "Thanks."}]  # fmt: skip
    plain = with_tools(messages, TOOLS, ToolChoice())
    assert [message["role"] for message in plain] == ["system", "user", "assistant", "user"]
    assert '"name": "weather"' in plain[0]["content"]
    assert _summary(_read(plain[2]["content"], []))[1] == [("time", "{}")]
    assert plain[3]["content"].count("<tool_response>") == 2 and plain[3]["content"].endswith("Thanks.")
    assert "tools" not in with_tools(messages, TOOLS, ToolChoice("none"))[0]["content"]


def test_a_tool_that_does_not_exist_cannot_be_required() -> None:
    with pytest.raises(InputError, match="alien"):
        answer_grammar(TOOLS, ToolChoice("required", "alien"))
    assert answer_grammar(TOOLS, ToolChoice("auto")) is None


def test_with_a_schema_a_model_may_still_call() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    both = answer_grammar(TOOLS, ToolChoice("auto"), schema) or ""
    assert "<tool_call>" in both
    assert "<tool_call>" not in (answer_grammar(TOOLS, ToolChoice("none"), schema) or "<tool_call>")
