"""Grammars made from JSON schemas, judged by llama.cpp's own grammar engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import llama_cpp
import pytest

from nomoat.base.errors import InputError
from nomoat.formats.json_grammar import json_grammar
from nomoat.formats.json_ranges import integers_between, numbers_between
from nomoat.formats.vocabulary import Vocabulary

Accepts = Callable[[Any, str], bool]
TREE = {"$defs": {"node": {"type": "object", "properties": {
    "value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
}, "required": ["value", "next"], "additionalProperties": False}}, "$ref": "#/$defs/node"}  # fmt: skip
ABC = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}},
}


@pytest.fixture(scope="module")
def accepts(smollm2_path: Path) -> Accepts:
    """Whether llama.cpp lets a model write exactly this text and end there."""
    vocabulary = Vocabulary.open(smollm2_path)

    def judge(schema: Any, text: str) -> bool:
        grammar = llama_cpp.llama_sampler_init_grammar(
            vocabulary._vocab, json_grammar(schema).encode(), b"root"
        )
        assert grammar, "llama.cpp cannot read the grammar"
        try:
            tokens = [*vocabulary.encode(text, parse_special=False), vocabulary.eos_token_id]
            return all(_allowed(grammar, token) for token in tokens)
        finally:
            llama_cpp.llama_sampler_free(grammar)

    return judge


def _allowed(grammar: Any, token: int) -> bool:
    data = (llama_cpp.llama_token_data * 1)(llama_cpp.llama_token_data(token, 0.0, 0.0))
    candidates = llama_cpp.llama_token_data_array(data, 1, -1, False)
    llama_cpp.llama_sampler_apply(grammar, candidates)
    if data[0].logit < 0:
        return False
    if token > 2:
        llama_cpp.llama_sampler_accept(grammar, token)
    return True


CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "string"}, ['"a"', '"\\n\\u00e9 é ☃"', '""'], ['"', '"a\nb"', '"\\x"', "a", '"\\ud800"']),
    ({"type": "integer"}, ["0", "-17", "900"], ["1.5", "01", "+1", "--1"]),
    ({"type": "number"}, ["0", "-1.5", "2e10"], [".5", "1.", "NaN"]),
    ({"type": ["null", "boolean"]}, ["null", "true"], ["1", "nil"]),
    ({"enum": ["a\"b", "c\\d", 3, None]}, ['"a\\"b"', '"c\\\\d"', "3", "null"], ['"a"', "4"]),
    ({"const": {"a": 1}}, ['{"a": 1}'], ['{"a":2}']),
    (ABC, ["{}", '{"a":1}', '{"b":"x","c":true}', '{"a":1,"c":false}'], ['{"d":1}', '{"b":1}', '{"a":1,}']),
    ({**ABC, "required": ["b"]}, ['{"b":""}', '{"a":1,"b":""}', '{"b":"","c":true}'], ["{}", '{"a":1}']),
    ({**ABC, "additionalProperties": {"type": "null"}}, ['{"a":1,"z":null}', '{"z":null}'], ['{"z":1}']),
    ({"type": "object", "required": ["x"]}, ['{"x":[1,{"y":2}]}'], ["{}"]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, ["[1]", "[1, 2,3]"],
     ["[]", "[1,2,3,4]", '["a"]']),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, ['[1,"a"]'], ['["a",1]']),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"abc"'], ['"a"', '"abcd"']),
    ({"type": "string", "format": "date"}, ['"2026-02-28"'], ['"2026-02-31"', '"26-1-1"']),
    ({"type": "integer", "minimum": 3, "maximum": 12}, ["3", "9", "12"], ["2", "13", "-3", "33"]),
    ({"allOf": [ABC, {"required": ["a"]}]}, ['{"a":1}'], ["{}"]),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, ["1", '"1"'], ["true"]),
    (TREE, ['{"value":1,"next":{"value":2,"next":null}}'], ['{"value":1}']),
    ({}, ["1", '{"a":[null]}', '"x"'], ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=range(len(CASES)))
def test_a_grammar_lets_pass_what_obeys_the_schema(
    accepts: Accepts, schema: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    for text in good:
        jsonschema_rs.validate(schema, json.loads(text))
        assert accepts(schema, text), text
    for text in bad:
        assert not accepts(schema, text), text


def _matches(expression: str) -> Callable[[str], bool]:
    """The small part of GBNF that ranges use, as a regular expression."""
    parts = re.findall(r'"[^"]*"|\[[^\]]*\]|[^" \[]+', expression)
    pattern = "".join(re.escape(part[1:-1]) if part.startswith('"') else part for part in parts)
    return re.compile(f"(?:{pattern})").fullmatch  # type: ignore[return-value]


@pytest.mark.parametrize("low", [-120, -99, -10, -1, 0, 1, 9, 10, 57])
@pytest.mark.parametrize("high", [-99, -7, 0, 1, 8, 10, 99, 100, 123])
def test_a_range_of_integers_is_exact(low: int, high: int) -> None:
    if low > high:
        with pytest.raises(InputError):
            integers_between(low, high)
        return
    matches = _matches(integers_between(low, high))
    assert {number for number in range(-200, 200) if matches(str(number))} == set(range(low, high + 1))


@pytest.mark.parametrize(("limits", "inside", "outside"), [
    ((0, 1, None, None), ["0", "1", "0.5", "0.999"], ["1.5", "-0.5", "2"]),
    ((None, None, 0, 1), ["0.5", "0.01"], ["0", "1", "0.0", "1.5", "-1"]),
    ((-2, 3, None, None), ["-2", "-1.5", "0", "2.9", "3"], ["-2.5", "3.1", "4"]),
    ((-5, None, None, 0), ["-5", "-0.1", "-4.9"], ["0", "-5.1", "1"]),
], ids=str)  # fmt: skip
def test_a_range_of_numbers_is_exact(limits: tuple[Any, ...], inside: list[str], outside: list[str]) -> None:
    matches = _matches(numbers_between(*limits))
    assert [text for text in inside if not matches(text)] == []
    assert [text for text in outside if matches(text)] == []


@pytest.mark.parametrize("schema", [
    False, {"type": "string", "pattern": "a+"}, {"not": {}}, {"type": "alien"}, {"$ref": "http://elsewhere/x"},
    {"$ref": "#/nowhere"}, {"$ref": "#"}, {"type": "array", "uniqueItems": True}, {"enum": []}, {"anyOf": []},
    {"type": "integer", "minimum": 5, "maximum": 4}, {"type": "number", "minimum": 0.5}, {"minimum": "x"},
    {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"type": "string", "minLength": -1},
    {"type": "string", "maxLength": 10**9}, {"properties": 3}, {"allOf": 3}, {"allOf": [3]}, {"$ref": []},
    {"required": [1], "type": "object"}, {"properties": {"a": {"type": 3}}}, {"type": []}, {"prefixItems": 3},
    {"minimum": float("inf")}, {"properties": {"a": 3}},
], ids=str)  # fmt: skip
def test_what_a_grammar_cannot_keep_is_refused(schema: Any) -> None:
    with pytest.raises(InputError):
        json_grammar(schema)


def test_a_deep_schema_is_refused_not_followed_for_ever() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InputError):
        json_grammar(schema)
