"""JSON schema to GBNF, llama.cpp's grammar: what a model writes under it is JSON and obeys the schema.

A keyword that a grammar cannot enforce is refused, never ignored: a client that asked for it would trust the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.base.errors import InputError
from nomoat.formats.json_ranges import integers_between, numbers_between

__all__ = ["JsonGrammar", "json_grammar", "literal"]

_HEX = "[0-9a-fA-F]"
_BUILT_IN = {
    "space": '| " " | "\\n" [ \\t]{0,20}',
    # No lone surrogates: they are JSON, but no text.
    "escape": f'["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}})',
    "char": '[^"\\\\\\x00-\\x1F\\x7F] | "\\\\" escape',
    "string": '"\\"" char* "\\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "pair": 'string space ":" space value',
    "object": '"{" space (pair (space "," space pair)*)? space "}"',
    "array": '"[" space (value (space "," space value)*)? space "]"',
    "value": "object | array | string | number | boolean | null",
}
_DAY = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_TIME = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
    ' ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_FORMATS = {
    "date": _DAY, "time": _TIME, "date-time": f'{_DAY} "T" {_TIME}',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{12}}',
}  # fmt: skip
_REFUSED = (
    "not", "if", "then", "else", "pattern", "patternProperties", "propertyNames", "minProperties", "maxProperties",
    "dependentRequired", "dependentSchemas", "uniqueItems", "contains", "minContains", "maxContains",
    "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_MOST_RULES = 5000
_MOST_REPEATED = 2000  # llama.cpp refuses more


def json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar whose rule `root` is JSON text that obeys `schema`. Raises `InputError` for what it cannot say."""
    grammar = JsonGrammar(schema)
    return grammar.text(grammar.rule(schema))


def literal(text: str) -> str:
    """`text` as a GBNF literal."""
    escaped = (f"\\x{ord(c):02X}" if ord(c) < 32 else "\\" + c if c in '"\\' else c for c in text)
    return '"' + "".join(escaped) + '"'


class JsonGrammar:
    """Collects the rules of one grammar. `whole` is the document that `$ref`s point into."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._whole = whole
        self._rules: dict[str, str] = dict(_BUILT_IN)
        self._references: dict[str, str] = {}

    def enter(self, whole: Mapping[str, Any]) -> None:
        """From here on, `$ref`s point into `whole`."""
        self._whole, self._references = whole, {}

    def text(self, root: str) -> str:
        """The whole grammar, whose root is the expression `root`."""
        lines = (f"{name} ::= {body}" for name, body in self._rules.items())
        return "\n".join([f"root ::= {root}", *lines]) + "\n"

    def add(self, body: str) -> str:
        """Name a rule for `body`."""
        if len(self._rules) >= _MOST_RULES:
            raise InputError("the JSON schema is too large", f"a grammar has at most {_MOST_RULES} rules")
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def rule(self, schema: Any) -> str:
        """The name of the rule for JSON that obeys `schema`."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, Mapping):
            raise _cannot(
                "a schema that is no object" if schema is not False else "a schema that nothing obeys"
            )
        for name in _REFUSED:
            if schema.get(name) not in (None, False):
                raise _cannot(f"the keyword {name!r}")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        for keyword, build in (
            ("const", self._constant), ("enum", self._enumeration), ("allOf", self._all_of), ("anyOf", self._any_of),
            ("oneOf", self._any_of),
        ):  # fmt: skip
            if keyword in schema:
                return build(schema, schema[keyword])
        return self._typed(schema)

    # -- what a schema is ----------------------------------------------------------------------------

    def _typed(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type", _implied_type(schema))
        if isinstance(kind, list) and kind:
            return self.add(" | ".join(self.rule({**schema, "type": each}) for each in kind))
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._string(schema)
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind in ("boolean", "null"):
            return str(kind)
        if kind is None:
            return "value"
        raise _cannot(f"the type {kind!r}")

    def _constant(self, schema: Mapping[str, Any], value: Any) -> str:
        return self.add(literal(_json(value)))

    def _enumeration(self, schema: Mapping[str, Any], values: Any) -> str:
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise _cannot("an 'enum' without values")
        return self.add(" | ".join(literal(_json(value)) for value in values))

    def _any_of(self, schema: Mapping[str, Any], options: Any) -> str:
        if not isinstance(options, list) or not options:
            raise _cannot("'anyOf' or 'oneOf' without schemas")
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        shared = rest if _says_something(rest) else {}
        return self.add(" | ".join(self.rule(_merged([shared, self._whole_of(each)])) for each in options))

    def _all_of(self, schema: Mapping[str, Any], parts: Any) -> str:
        if not isinstance(parts, list):
            raise _cannot("'allOf' without schemas")
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        return self.rule(_merged([rest, *(self._whole_of(part) for part in parts)]))

    def _whole_of(self, schema: Any) -> Any:
        """`schema`, or what its lone `$ref` points to."""
        seen = 0
        while isinstance(schema, Mapping) and "$ref" in schema and seen < 20:
            schema, seen = self._find(schema["$ref"]), seen + 1
        return schema

    def _reference(self, target: Any) -> str:
        if target in self._references:
            return self._references[target]
        schema = self._find(target)
        name = self._references[target] = self.add("")  # known before it is made: it may contain itself
        self._rules[name] = self.rule(schema)
        if self._rules[name] == name:
            raise _cannot(f"the '$ref' {target!r}, which points to itself")
        return name

    def _find(self, target: Any) -> Any:
        if not isinstance(target, str) or not re.match(r"#(/|$)", target):
            raise _cannot(f"the '$ref' {target!r}: only references within the schema")
        found: Any = self._whole
        for step in target[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, Mapping) and step in found:
                found = found[step]
            else:
                raise _cannot(f"the '$ref' {target!r}, which leads nowhere")
        return found

    # -- what JSON consists of -----------------------------------------------------------------------

    def _object(self, schema: Mapping[str, Any]) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise _cannot("an object whose 'properties' or 'required' are of the wrong type")
        more = schema.get("additionalProperties", not properties and "properties" not in schema)
        if any(name not in properties for name in required):
            properties = {**properties, **{name: {} for name in required if name not in properties}}
        extra = None if more is False else self.add(f'string space ":" space {self.rule(more)}')
        rest = self.add(f'(space "," space {extra})*' if extra else '""')
        first = self.add(f"({extra} {rest})?" if extra else '""')
        for name, value in reversed(list(properties.items())):
            pair = self.add(f'{literal(_json(name))} space ":" space {self.rule(value)}')
            if name in required:
                first = self.add(f"{pair} {rest}")
                rest = self.add(f'space "," space {pair} {rest}')
            else:
                first = self.add(f"{pair} {rest} | {first}")
                rest = self.add(f'(space "," space {pair})? {rest}')
        return self.add(f'"{{" space {first} space "}}"')

    def _array(self, schema: Mapping[str, Any]) -> str:
        start, items = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(items, list):  # the form before 2020-12
            start, items = items, schema.get("additionalItems", True)
        least, most = _count(schema, "minItems", 0), _count(schema, "maxItems", None)
        if start:
            if least not in (0, len(start)) or most not in (None, len(start)):
                raise _cannot("'minItems' or 'maxItems' beside 'prefixItems'")
            inner = ' space "," space '.join(self.rule(item) for item in start)
            return self.add(f'"[" space {inner} space "]"')
        if most == 0 or items is False:
            return self.add('"[" space "]"')
        item = self.rule(items)
        more = f'(space "," space {item}){_times(max(least - 1, 0), None if most is None else most - 1)}'
        inner = f"{item} {more}" if least else f"({item} {more})?"
        return self.add(f'"[" space {inner} space "]"')

    def _string(self, schema: Mapping[str, Any]) -> str:
        form = schema.get("format")
        least, most = _count(schema, "minLength", 0), _count(schema, "maxLength", None)
        if form in _FORMATS:
            return self.add(f'"\\"" {_FORMATS[form]} "\\""')
        if least or most is not None:
            return self.add(f'"\\"" char{_times(least, most)} "\\""')
        return "string"

    def _number(self, schema: Mapping[str, Any], kind: str) -> str:
        if schema.get("multipleOf", 1) != 1 or ("multipleOf" in schema and kind == "number"):
            raise _cannot("the keyword 'multipleOf'")
        least, most = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if least is None and most is None and above is None and below is None:
            return kind
        build = integers_between if kind == "integer" else numbers_between
        return self.add(build(least, most, above, below))


def _cannot(what: str) -> InputError:
    return InputError(f"the JSON schema has {what}, which a grammar cannot enforce", "leave it out")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _implied_type(schema: Mapping[str, Any]) -> str | None:
    for kind, keywords in (
        ("object", ("properties", "required", "additionalProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("string", ("minLength", "maxLength")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(keyword in schema for keyword in keywords):
            return kind
    return None


def _says_something(schema: Mapping[str, Any]) -> bool:
    notes = {"title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "deprecated",
             "discriminator", "nullable", "readOnly", "writeOnly", "$comment"}  # fmt: skip
    return any(key not in notes for key in schema)


def _merged(parts: Sequence[Any]) -> Any:
    """One schema for all `parts`. Raises `InputError` where two of them say different things by one keyword."""
    result: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            if part is True:
                continue
            raise _cannot("'allOf' with something that is no object")
        for key, value in part.items():
            if key == "properties" and key in result:
                result[key] = {**result[key], **value}
            elif key == "required" and key in result:
                result[key] = [*result[key], *(name for name in value if name not in result[key])]
            elif key in result and result[key] != value and _says_something({key: value}):
                raise _cannot(f"parts that disagree about {key!r}")
            else:
                result[key] = value
    return result


def _count(schema: Mapping[str, Any], name: str, default: int | None) -> Any:
    value = schema.get(name, default)
    if value is default:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_REPEATED:
        raise _cannot(f"{name!r} of {value!r} (a number from 0 to {_MOST_REPEATED})")
    return value


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    if most < least:
        raise _cannot("a least count above the most")
    return f"{{{least},{most}}}"
