"""Turns a failed validation into sentences: for a model, so that its next call is right; for people, as a difference.

Each sentence names the place, what was given (never more than a glimpse of it) and what is expected.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

from jsonschema_rs import ValidationError, ValidationErrorKind

_MOST: Final = 8
_GLIMPSE_CHARS: Final = 60
_NAMES_SHOWN: Final = 20
Schema = Mapping[str, object]
_KINDS: Final = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS: Final = {
    "minimum": "of at least",
    "exclusiveMinimum": "greater than",
    "maximum": "of at most",
    "exclusiveMaximum": "less than",
    "multipleOf": "that is a multiple of",
    "minLength": "with a length of at least",
    "maxLength": "with a length of at most",
    "pattern": "that matches",
    "format": "in the format",
    "minItems": "with at least this many items:",
    "maxItems": "with at most this many items:",
    "minProperties": "with at least this many keys:",
    "maxProperties": "with at most this many keys:",
}


def argument_problems(errors: Iterable[ValidationError], schema: Schema) -> list[str]:
    """Sentences about arguments that do not fit `schema`, at most eight of them."""
    sentences = dict.fromkeys(
        sentence for error in errors for leaf in _leaves(error) for sentence in _argument(leaf, schema)
    )
    return _bounded(list(sentences))


def result_problems(errors: Iterable[ValidationError], schema: Schema) -> list[str]:
    """How a result differs from the declared shape: missing keys, new keys, changed types; at most eight."""
    sentences = dict.fromkeys(
        sentence for error in errors for leaf in _leaves(error) for sentence in _difference(leaf, schema)
    )
    return _bounded(sorted(sentences, key=lambda sentence: sentence.startswith("new key")))


def _argument(error: ValidationError, schema: Schema) -> Iterator[str]:
    at = _place(error.instance_path)
    owner = _owner(error, schema)
    properties = _properties(owner, schema)
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            described = _with_description(_subschema(properties.get(name)), schema)
            yield f"`{_join(at, name)}` is missing; it must be {described}"
        case (
            ValidationErrorKind.AdditionalProperties(unexpected=names)
            | ValidationErrorKind.UnevaluatedProperties(unexpected=names)
        ):
            for name in names[:_MOST]:
                yield f"`{_join(at, name[:_GLIMPSE_CHARS])}` is no parameter; {_known(name, properties)}"
        case ValidationErrorKind.FalseSchema():
            # This kind tells neither the object nor its keys.
            yield f"`{at or 'arguments'}` must be empty: there are no parameters; write {{}}"
        case _:
            expected = _expected(owner, schema)
            yield f"`{at or 'arguments'}` is {_given(error.instance)}; it must be {expected}"


def _difference(error: ValidationError, schema: Schema) -> Iterator[str]:
    at = _place(error.instance_path)
    owner = _owner(error, schema)
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            yield f"`{_join(at, name)}` missing"
            known = _properties(owner, schema)
            given = _subschema(error.instance)
            yield from (f"new key `{_join(at, key[:_GLIMPSE_CHARS])}`" for key in given if key not in known)
        case (
            ValidationErrorKind.AdditionalProperties(unexpected=names)
            | ValidationErrorKind.UnevaluatedProperties(unexpected=names)
        ):
            yield from (f"new key `{_join(at, name[:_GLIMPSE_CHARS])}`" for name in names)
        case ValidationErrorKind.FalseSchema():
            yield f"new keys in `{at or 'result'}`, declared empty"
        case _:
            yield f"`{at or 'result'}` is {_kind(error.instance)}, declared {_expected(owner, schema)}"


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The error itself, or those of the one alternative that was meant: the one whose type fits."""
    match error.kind:
        case (
            ValidationErrorKind.AnyOf(context=branches) | ValidationErrorKind.OneOfNotValid(context=branches)
        ):
            fitting = [branch for branch in branches if not _is_other_type(branch, len(error.instance_path))]
            if len(fitting) == 1:
                for inner in fitting[0]:
                    yield from _leaves(inner)
                return
        case _:
            pass
    yield error


def _is_other_type(branch: list[ValidationError], depth: int) -> bool:
    return any(
        isinstance(error.kind, ValidationErrorKind.Type) and len(error.instance_path) == depth
        for error in branch
    )


def _owner(error: ValidationError, schema: Schema) -> Schema:
    """The schema that holds the keyword which failed."""
    found: object = schema
    for key in error.schema_path[:-1]:
        found = _items(found)[key] if isinstance(key, int) else _subschema(found).get(key)
    return _resolved(_subschema(found), schema)


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found: object = root
    for key in reference[2:].split("/"):
        found = _subschema(found).get(key.replace("~1", "/").replace("~0", "~"))
    return {**_subschema(found), **{key: value for key, value in schema.items() if key != "$ref"}}


def _subschema(value: object) -> Schema:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _properties(owner: Schema, root: Schema) -> Schema:
    return _subschema(_resolved(owner, root).get("properties"))


def _with_description(schema: Schema, root: Schema) -> str:
    description = schema.get("description") or _resolved(schema, root).get("description")
    expected = _expected(schema, root)
    return f"{expected}: {description}" if isinstance(description, str) and description else expected


def _expected(schema: Schema, root: Schema) -> str:
    """What a schema asks for, in a few words."""
    schema = _resolved(schema, root)
    if "const" in schema:
        return _shown(schema["const"])
    options = schema.get("enum")
    if isinstance(options, list):
        return (
            f"one of {', '.join(_shown(option) for option in cast('list[object]', options)[:_NAMES_SHOWN])}"
        )
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if isinstance(branches, list):
            listed = [_expected(_subschema(branch), root) for branch in cast("list[object]", branches)]
            return " or ".join(dict.fromkeys(listed))
    types = schema.get("type")
    names = cast("list[object]", types) if isinstance(types, list) else [types]
    kinds = " or ".join(_KINDS.get(str(name), "a value of another shape") for name in names)
    bounds = [f"{words} {_shown(schema[keyword])}" for keyword, words in _BOUNDS.items() if keyword in schema]
    if schema.get("uniqueItems") is True:
        bounds.append("without repetitions")
    return f"{kinds} {' and '.join(bounds)}" if bounds else kinds


def _known(name: str, properties: Schema) -> str:
    if not properties:
        return "there are no parameters"
    names = sorted(properties)
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower()[:200], list(by_lower), n=1, cutoff=0.5)
    listed = f"the parameters are: {', '.join(names[:_NAMES_SHOWN])}"
    return f"did you mean `{by_lower[near[0]]}`? T{listed[1:]}" if near else listed


def _given(value: object) -> str:
    shown = _shown(value)
    return shown if value is None or isinstance(value, bool) else f"{shown} ({_kind(value)})"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _GLIMPSE_CHARS else f"{text[: _GLIMPSE_CHARS - 3]}..."


def _place(path: list[str | int]) -> str:
    place = ""
    for key in path:
        place = f"{place}[{key}]" if isinstance(key, int) else _join(place, key[:_GLIMPSE_CHARS])
    return place


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _bounded(sentences: list[str]) -> list[str]:
    more = len(sentences) - _MOST
    return [*sentences[:_MOST], f"and {more} more"] if more > 0 else sentences
