"""Turns what pydantic finds in a document into problems that name file, line, key, what is wrong and what to write.

Every error of a document is reported, not only the first one.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cattlegrid.core.errors import Problem
from cattlegrid.release.yaml_lines import Document, KeyPath, dotted

FIX: Final = " | "
"""In the text of a ValueError that a validator raises, stands between what is wrong and what to do."""

M = TypeVar("M", bound=BaseModel)

_EXPECTED: Final[dict[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "decimal_type": "a number",
    "is_instance_of": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping (`key: value` lines)",
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUNDS: Final[dict[str, str]] = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "string_too_long": "must have {max_length} characters or fewer",
    "string_too_short": "must not be empty",
    "too_long": "must have {max_length} entries or fewer",
    "finite_number": "must be a finite number",
}
_EXAMPLES: Final[dict[str, str]] = {
    "name": "name: support",
    "description": "description: What the agent is for",
    "models": "models:` with lines such as `  default: small",
    "provider": "provider: openai",
    "model": "model: gpt-4.1-mini",
    "issuer": "issuer: https://login.example.com/realms/shop",
    "audience": "audience: cattlegrid",
}
_PATTERNS: Final[dict[str, str]] = {
    "name": "must be lower-case letters, digits, `-` and `_`, and begin with a letter",
    "description": "must be one line of text",
}


def validate(model: type[M], document: Document) -> tuple[M | None, tuple[Problem, ...]]:
    """The validated document, or None with everything that is wrong with it."""
    if document.data is None:
        return None, document.problems
    try:
        found = model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, (*document.problems, *(_problem(model, document, detail) for detail in details))
    return (None if document.problems else found), document.problems


def readable_part(model: type[M], document: Document, *, placeholders: Mapping[str, object]) -> M | None:
    """What can be read of a document that has problems: its valid keys, placeholders for what is required.

    None when the document is no mapping.
    """
    if not isinstance(document.data, dict):
        return None
    data = cast("dict[str, object]", document.data)
    kept = dict(placeholders)
    for key, value in data.items():
        try:
            model.model_validate({**placeholders, key: value})
        except ValidationError:
            continue
        kept[key] = value
    return model.model_validate(kept)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that was most likely meant by `word`."""
    known = list(words)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def choose(word: str, words: Iterable[str], *, otherwise: str) -> str:
    """The fix for an unknown word: the nearest one, else the list of all, else `otherwise`."""
    known = sorted(words)
    if (meant := nearest(word, known)) is not None:
        return f"Did you mean `{meant}`?"
    return f"Choose one of {', '.join(f'`{name}`' for name in known)}" if known else otherwise


def _problem(model: type[BaseModel], document: Document, detail: Mapping[str, Any]) -> Problem:
    path: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
    message, fix = _explain(model, path, detail)
    return Problem(
        file=document.file, line=document.line_of(path), key=dotted(path), message=message, fix=fix
    )


def _explain(model: type[BaseModel], path: KeyPath, detail: Mapping[str, Any]) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    name = str(path[-1]) if path else ""
    match kind:
        case "extra_forbidden":
            known = valid_keys(model, path[:-1])
            return f"There is no key `{name}` here", choose(name, known, otherwise="Remove it")
        case "missing":
            return f"The key `{name}` is missing", f"Add `{_EXAMPLES.get(name, f'{name}: ...')}`"
        case "value_error":
            what, _, fix = str(context["error"]).partition(FIX)
            return what, fix
        case _:
            return _explain_value(kind, path, given, context)


def _explain_value(kind: str, path: KeyPath, given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    if kind == "literal_error":
        options = [option.strip("'") for option in str(context["expected"]).replace(" or ", ", ").split(", ")]
        fix = choose(str(given), options, otherwise="Remove it")
        return f"{_given(given)} is none of the possible values", fix
    if kind in _EXPECTED:
        return _wrong_type(kind, path, given)
    if kind in _BOUNDS:
        return f"{_given(given)} {_BOUNDS[kind].format_map(_Amounts(context))}", "Change the value"
    if kind == "string_pattern_mismatch":
        rule = _PATTERNS.get(dotted(path), "has characters that a name cannot have")
        return f"{_given(given)} {rule}", "Use letters, digits, `-` and `_`" if dotted(
            path
        ) not in _PATTERNS else "Change it"
    return f"{_given(given)} is not accepted here", "Change the value"


def _wrong_type(kind: str, path: KeyPath, given: object) -> tuple[str, str]:
    expected = _EXPECTED[kind]
    if given is None:
        return f"The key has no value; {expected} is expected", "Write a value, or remove the line"
    if kind == "string_type" and len(path) == 2 and path[0] in {"approve", "deny"}:
        return f"{_given(given)} is not a condition", "Write `always`, or a comparison such as `amount > 50`"
    if kind == "string_type":
        return f"{_given(given)} is not text", "Put it in quotes"
    return f"{_given(given)} is not {expected}", f"Write {expected}"


class _Amounts(dict[str, Any]):
    """Numbers for people: 86400.0 reads `86400`."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__(
            {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in context.items()}
        )


def _given(value: object) -> str:
    """The value as it may be shown: short, and in the words of YAML."""
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "A mapping"
        case list() | tuple():
            return "A list"
        case _:
            text = str(value)
            return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def valid_keys(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    """The keys that a mapping at `path` of a document may have; empty where any key may stand."""
    here: object = model
    for part in path:
        here = _inside(here, part)
    here = _model_in(here)
    return () if here is None else tuple(field.alias or name for name, field in here.model_fields.items())


def _inside(annotation: object, part: str | int) -> object:
    if (model := _model_in(annotation)) is not None:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        return fields[str(part)].annotation if part in fields else None
    for option in _options(annotation):
        if (arguments := get_args(option)) and get_origin(option) is dict:
            return arguments[1]
    return None


def _model_in(annotation: object) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _options(annotation: object) -> tuple[object, ...]:
    """The members of a union, without what `Annotated` adds."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _options(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(option for member in get_args(annotation) for option in _options(member))
    return (annotation,)
