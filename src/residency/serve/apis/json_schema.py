"""JSON schemas of clients: is it one, can llama.cpp follow it, and does it follow every word?

What llama.cpp reads and what it passes over is in its `common/json-schema.cpp` and
`common/json-schema-to-grammar.cpp`. vLLM's grammars read more; the narrower rule holds for both, so
that a model can change its engine.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from residency.serve.errors import RequestError

if TYPE_CHECKING:
    from jsonschema_rs import Validator

LONGEST_WORDS = 200
MOST_NODES = 1000
# llama.cpp's MAX_REPETITION_THRESHOLD: a higher minimum fails there, a higher maximum is dropped.
MOST_REPEATS = 2000

_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions", "discriminator"}
_NEVER = {"oneOf", "allOf", "not", "if", "then", "else"}
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_MOST = ("maxLength", "maxItems")
_STRING = ("pattern", "format", "minLength", "maxLength")
_OF_OBJECTS = {"patternProperties", "propertyNames", "minProperties", "maxProperties"}
_OF_OBJECTS |= {"dependentRequired", "dependentSchemas", "unevaluatedProperties"}
_IGNORED = {
    "object": _OF_OBJECTS,
    "array": {"uniqueItems", "contains", "minContains", "maxContains"},
    "integer": {"multipleOf"},
    "number": {"multipleOf", *_BOUNDS},
}
_FORMATS = re.compile(r"date|time|date-time|uuid[1-5]?")
_PATTERN = re.compile(
    r"\^(?:[^\\^$(\[]|\((?:\?:|(?!\?))|\\[trn\\\"\[\]xuU^$.()|{}*+?-]"
    r"|\[(?:[^\]\\]|\\[trn\\\"\[\]xuU-])*\])*\$"
)


def check(schema: Mapping[str, Any], param: str, *, strict: bool) -> None:
    """Raises `RequestError` for what is no JSON schema and for what llama.cpp can make no grammar
    of; with `strict`, also for a keyword that the grammar would not enforce."""
    if problem := _misfit(schema) or next(_faults(schema, strict), "") or _unusable(schema):
        raise RequestError(f"{param}: {problem}", code="invalid_json_schema", param=param)


def validator(schema: Mapping[str, Any]) -> Validator:
    """What tells whether a value fits `schema`, which `check` has passed.

    Left to itself the library opens whatever file or URL a schema names, past `egress` and seal.
    """
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(dict(schema), retriever=_fetch_nothing)


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(f"{uri[:LONGEST_WORDS]} is not in this schema")


def _unusable(schema: Mapping[str, Any]) -> str:
    """What is wrong where llama.cpp does not look: a reference under `not`, a broken pattern."""
    try:
        validator(schema)
    except ValueError as error:
        return f"not a usable JSON schema: {str(error).splitlines()[0][:LONGEST_WORDS]}"
    return ""


@functools.cache
def _meta_schema() -> Validator:
    """Draft 2020-12 whatever `$schema` says: the library would fetch one that it does not know."""
    import jsonschema_rs

    draft = "https://json-schema.org/draft/2020-12/schema"
    return jsonschema_rs.Draft202012Validator({"$ref": draft})


def _misfit(schema: Mapping[str, Any]) -> str:
    error = next(_meta_schema().iter_errors(schema), None)
    if error is None:
        return ""
    place = "/".join(map(str, ("#", *error.instance_path)))
    return f"not a JSON schema: {place}: {error.message[:LONGEST_WORDS]}"


def _faults(schema: Mapping[str, Any], strict: bool) -> Iterator[str]:
    nodes: list[tuple[str, Any]] = [("#", schema)]
    for _ in range(MOST_NODES):
        if not nodes:
            return
        place, node = nodes.pop()
        yield from (f"{place}: {fault}" for fault in _node_faults(node, schema, strict))
        nodes += [(f"{place}/{name}", child) for name, child in _children(node)]
    yield f"more than {MOST_NODES} schemas in one"


def _node_faults(node: Any, root: Mapping[str, Any], strict: bool) -> Iterator[str]:
    if not isinstance(node, Mapping):
        yield "true and false are no schemas here; say {} for anything"
        return
    if "$ref" in node and not _resolves(node["$ref"], root):
        yield f"$ref {node['$ref'][:LONGEST_WORDS]!r} leads nowhere in this schema"
    if node.get("enum") == []:
        yield "enum is empty"
    for count in _COUNTS:
        if isinstance(node.get(count), float):
            yield f"{count} must be an integer"
    for least in ("minLength", "minItems"):
        if node.get(least, 0) > MOST_REPEATS:
            yield f"{least} may be {MOST_REPEATS} at most"
    for keyword in sorted(_ignored(node)) if strict else ():
        yield f"{keyword} would not be enforced; leave it out, or strict: true"


def _resolves(ref: str, root: Any) -> bool:
    """Whether llama.cpp finds `ref`: a path in the same document, its parts taken as they stand."""
    if not ref.startswith("#/"):
        return False
    for part in ref.split("/")[1:]:
        if isinstance(root, list):
            root = dict(zip(map(str, range(len(root))), root, strict=True))
        root = root.get(part) if isinstance(root, Mapping) else None
    return isinstance(root, Mapping)


def _ignored(node: Mapping[str, Any]) -> set[str]:
    """The keywords of `node` that say something and that its grammar passes over."""
    said = set(node) - _NOTES
    for alone in ("$ref", "anyOf"):
        if alone in node:
            return said - {alone}
    if "enum" in node or "const" in node:
        return said - {"enum", "const", "type"}
    kinds = node.get("type") or _guess(node)
    if not kinds:
        return said
    found = (said & _NEVER) | {m for m in _MOST if node.get(m, 0) > MOST_REPEATS}
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        found |= said & _IGNORED.get(kind, set()) | _ignored_more(kind, node)
    return found


def _guess(node: Mapping[str, Any]) -> str:
    """What llama.cpp takes a schema without `type` for."""
    if "properties" in node or "additionalProperties" in node:
        return "object"
    if "items" in node or "prefixItems" in node:
        return "array"
    return "string" if any(keyword in node for keyword in _STRING) else ""


def _ignored_more(kind: str, node: Mapping[str, Any]) -> set[str]:
    if kind == "object":
        missing = set(node.get("required", ())) - set(node.get("properties", ()))
        return {"required (of an unknown property)"} if missing else set()
    if kind == "array" and "items" in node:
        return {"prefixItems"} & set(node)
    if kind != "string":
        return set()
    if "pattern" in node and not _PATTERN.fullmatch(node["pattern"]):
        return {f"the pattern {node['pattern'][:80]!r}"}
    if "format" in node and not _FORMATS.fullmatch(node["format"]):
        return {f"the format {node['format'][:80]!r}"}
    # One of them is enforced: the first of these.
    both = [keyword for keyword in _STRING if keyword in node]
    return set(both[1:]) - ({"maxLength"} if both[:1] == ["minLength"] else set())


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return
    for group in ("properties", "$defs", "definitions"):
        for name, child in node.get(group, {}).items():
            yield f"{group}/{name}", child
    for group in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for index, child in enumerate(node.get(group, ())):
            yield f"{group}/{index}", child
    if "items" in node:
        yield "items", node["items"]
    if not isinstance(node.get("additionalProperties", True), bool):
        yield "additionalProperties", node["additionalProperties"]
