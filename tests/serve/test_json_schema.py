"""Schemas: what is none, what llama.cpp can make no grammar of, what it would pass over."""

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.engines.base import EngineSpec
from residency.engines.client import ChatAnswer, EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.serve.apis import json_schema, tools
from residency.serve.errors import RequestError


def refusal(schema: Any, *, strict: bool = False) -> str:
    """Why `schema` is refused; empty where it is not."""
    try:
        json_schema.check(schema, "here", strict=strict)
    except RequestError as error:
        assert (error.param, error.code) == ("here", "invalid_json_schema")
        return error.message
    return ""


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


ENFORCED: list[dict[str, Any]] = [
    {},
    obj(a={"type": "string", "description": "x"}, b={"type": ["integer", "null"]}),
    {**obj(a={"enum": ["x", "y"], "type": "string"}), "additionalProperties": False},
    {"$defs": {"n": obj(x={"const": 1})}, "anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]},
    {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/anyOf/0"}}]},
    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "number"}, {"type": "boolean"}]},
    {"type": "string", "minLength": 1, "maxLength": 20},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": "^[a-z]{2}(?:-[0-9]+|\\\\.)?$"},
    {"properties": {"a": {"format": "uuid"}}},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "number", "maxLength": 3},
]


@pytest.mark.parametrize("schema", ENFORCED)
def test_what_the_grammar_enforces_is_taken(schema: Any) -> None:
    assert refusal(schema, strict=True) == ""


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strng"}, "not a JSON schema: #/type"),
        (obj(a={"minLength": "x"}), "#/properties/a/minLength"),
        ({"required": "a"}, "#/required"),
        ({"$schema": "http://nowhere.invalid/s", "type": 3}, "#/type"),
        (obj(a=True), "#/properties/a: true and false"),
        ({"$ref": "#/$defs/x"}, "leads nowhere"),
        ({"$ref": "http://nowhere.invalid/s"}, "leads nowhere"),
        ({"$ref": "#"}, "leads nowhere"),
        ({"$ref": "#/anyOf/1", "anyOf": [{}]}, "leads nowhere"),
        ({"$ref": "#/anyOf/" + "9" * 5000, "anyOf": [{}]}, "leads nowhere"),
        ({"enum": []}, "enum is empty"),
        ({"type": "string", "minLength": 5000}, "2000 at most"),
        ({"type": "array", "minItems": 1.0}, "must be an integer"),
        (obj(**{str(n): {} for n in range(1000)}), "more than 1000"),
    ],
)
def test_what_makes_no_grammar_is_refused(schema: Any, words: str) -> None:
    assert words in refusal(schema)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "number", "minimum": 0}, "minimum"),
        ({"type": "integer", "multipleOf": 2}, "multipleOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "minProperties": 1}, "minProperties"),
        ({"type": "object", "required": ["a"]}, "required (of an unknown property)"),
        ({"oneOf": [{"type": "null"}]}, "oneOf"),
        ({"allOf": [{"type": "null"}]}, "allOf"),
        ({"type": "object", "not": {}}, "not"),
        ({"minimum": 3}, "minimum"),
        ({"type": "string", "maxLength": 5000}, "maxLength"),
        ({"type": "string", "format": "email"}, "the format 'email'"),
        ({"type": "string", "pattern": "[a-z]"}, "the pattern '[a-z]'"),
        ({"type": "string", "pattern": r"^\d$"}, r"the pattern '^\\d$'"),
        ({"type": "string", "pattern": "^(?=a)$"}, "the pattern '^(?=a)$'"),
        ({"type": "string", "pattern": "^a$", "minLength": 2}, "minLength"),
        ({"$defs": {"a": {}}, "$ref": "#/$defs/a", "minLength": 2}, "minLength"),
        ({"anyOf": [{"type": "null"}], "type": "null"}, "type"),
        ({"enum": ["a"], "minLength": 2}, "minLength"),
        (obj(a=obj(b={"type": "number", "maximum": 1})), "#/properties/a/properties/b: maximum"),
        ({"type": "object", "additionalProperties": {"not": {}}}, "not"),
    ],
)
def test_what_would_be_passed_over_is_refused_when_strict(schema: Any, keyword: str) -> None:
    assert f"{keyword} would not be enforced" in refusal(schema, strict=True)
    assert refusal(schema) == ""


KEYWORDS = st.sampled_from(
    ["type", "items", "properties", "required", "enum", "$ref", "anyOf", "pattern", "maxLength"]
)
SCRAPS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["string", "#/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, SCRAPS, max_size=5), st.booleans())
def test_nothing_but_a_refusal_is_raised(schema: dict[str, Any], strict: bool) -> None:
    refusal(schema, strict=strict)


def test_a_deep_schema_is_looked_through() -> None:
    schema: dict[str, Any] = {"not": {}}
    for _ in range(150):
        schema = obj(a=schema)
    assert "not would not be enforced" in refusal(schema, strict=True)


@pytest.mark.slow
def test_the_engine_enforces_what_we_take(base_gguf: Path) -> None:
    """Every schema is answered, and every answer that is complete follows it."""

    async def answers(url: str, key: str) -> list[ChatAnswer]:
        question = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 100}
        async with EngineClient(url, key) as client:
            return [
                await client.chat({**question, "temperature": 0, **_form(schema)})
                for schema in ENFORCED
            ]

    with LlamaCpp(EngineSpec(model=base_gguf, alias="base", context=512, slots=1)) as engine:
        found = asyncio.run(answers(engine.url, engine.key))
    whole = [(s, a.text) for s, a in zip(ENFORCED, found, strict=True) if a.finish_reason == "stop"]
    assert len(whole) > len(ENFORCED) / 2
    assert [s for s, text in whole if not jsonschema_rs.is_valid(s, json.loads(text))] == []


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return tools.form_option(schema, strict=True, place="here")
