"""Turns a declared function into the manifest of a tool: JSON Schemas of arguments and result, and what the model reads.

Schemas are JSON Schema 2020-12, made by pydantic from the annotations, and closed: a key that is not declared is an
error, in arguments so that a model is corrected, in results so that a changed shape is noticed. Results are described
as they are written: a field with a default is always there.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import jsonschema_rs
import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from cattlegrid.release.docstrings import Docstring
from cattlegrid.release.signature import MISSING, Parameter, Signature

_SECRET_WORDS: Final = frozenset(
    {"password", "passwd", "passphrase", "secret", "token", "credential", "credentials"}
)
_SECRET_PAIRS: Final = ("api_key", "apikey", "access_key", "private_key")
_TYPED_DICT: Final = "typed-dict-version"


class NoSchema(Exception):
    """A type that no JSON Schema describes; `fix` says what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


def adapter(annotation: object) -> TypeAdapter[Any]:
    """What validates and serialises values of a type. Raises NoSchema for a type that pydantic does not know."""
    try:
        return TypeAdapter(cast(Any, annotation))
    except PydanticUserError as error:
        if error.code == _TYPED_DICT:
            fix = "Import TypedDict from `typing_extensions`; the one of `typing` needs Python 3.12"
            raise NoSchema("A TypedDict cannot be read by this Python", fix) from error
        raise _no_schema(annotation) from error
    except Exception as error:
        raise _no_schema(annotation) from error


def parameters_schema(signature: Signature, docstring: Docstring) -> str:
    """The JSON Schema of a tool's arguments, as JSON text, in the order of the signature.

    Raises:
        NoSchema: the type of a parameter cannot be described, or its default is not of its type.
    """
    adapters: dict[str, TypeAdapter[Any]] = {}
    for parameter in signature.parameters.values():
        try:
            adapters[parameter.name] = adapter(parameter.type)
        except NoSchema as error:
            raise NoSchema(f"`{parameter.name}`: {error.message}", error.fix) from error
    schemas, definitions = _schemas(adapters)
    properties: dict[str, object] = {}
    for parameter in signature.parameters.values():
        described = dict(schemas[parameter.name])
        if text := docstring.arguments.get(parameter.name):
            described["description"] = text
        if not parameter.required:
            described["default"] = _default(parameter, adapters[parameter.name])
        properties[parameter.name] = described
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name, parameter in signature.parameters.items() if parameter.required],
        "additionalProperties": False,
        **({"$defs": definitions} if definitions else {}),
    }
    return _checked(schema)


def returns_schema(signature: Signature) -> str:
    """The JSON Schema of a tool's result, as JSON text; empty when the function declares nothing. Raises NoSchema."""
    if signature.returns is MISSING:
        return ""
    try:
        found = adapter(signature.returns)
        schema = found.json_schema(schema_generator=_Closed, mode="serialization")
    except NoSchema as error:
        raise NoSchema(f"The result: {error.message}", error.fix) from error
    except Exception as error:
        raise _no_schema(signature.returns, of="The result: ") from error
    return _checked(schema)


def secret_parameters(signature: Signature) -> Iterator[str]:
    """Parameters whose names say that a model shall write a secret."""
    for name in signature.parameters:
        words = set(name.lower().split("_"))
        paired = any(pair in name.lower() for pair in _SECRET_PAIRS)
        # A page's token is a place in a list.
        if paired or (words & _SECRET_WORDS and "page" not in words):
            yield name


class _Closed(GenerateJsonSchema):
    """Schemas without titles, which nobody reads, and with no room for undeclared keys.

    What is handed in are pydantic's own descriptions of types, plain dictionaries, here only handed on.
    """

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def field_is_required(self, field: object, total: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        described = cast("Mapping[str, object]", field)
        if self.mode == "serialization" and described["type"] != "typed-dict-field":
            return described.get("serialization_exclude_if") is None
        return super().field_is_required(cast(Any, field), total)

    def dataclass_schema(self, schema: object) -> JsonSchemaValue:
        return _close(super().dataclass_schema(cast(Any, schema)))

    def typed_dict_schema(self, schema: object) -> JsonSchemaValue:
        return _close(super().typed_dict_schema(cast(Any, schema)))

    def model_schema(self, schema: object) -> JsonSchemaValue:
        return _close(super().model_schema(cast(Any, schema)))


def _close(schema: JsonSchemaValue) -> JsonSchemaValue:
    closed = {name: value for name, value in schema.items() if name != "title"}
    if closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _schemas(adapters: Mapping[str, TypeAdapter[Any]]) -> tuple[dict[str, JsonSchemaValue], object]:
    """One schema for each adapter, and the definitions that they share."""
    for name, found in adapters.items():
        try:
            found.json_schema(schema_generator=_Closed)
        except Exception as error:
            raise _no_schema("Its type", of=f"`{name}`: ") from error
    inputs = [(name, "validation", found) for name, found in adapters.items()]
    schemas, shared = TypeAdapter.json_schemas(cast(Any, inputs), schema_generator=_Closed)
    return {name: schema for (name, _), schema in schemas.items()}, shared.get("$defs")


def _default(parameter: Parameter, found: TypeAdapter[Any]) -> object:
    try:
        found.validate_python(parameter.default)
        return found.dump_python(parameter.default, mode="json", warnings="none")
    except (ValidationError, ValueError) as error:
        message = f"`{parameter.name}`: its default {parameter.default!r:.60} is not of its type"
        raise NoSchema(message, "Change the default, or add its type to the annotation") from error


def _checked(schema: JsonSchemaValue) -> str:
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
        return msgspec.json.encode(schema).decode()
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise NoSchema(
            f"The types give no valid JSON Schema: {error}", "Use simpler types or constraints"
        ) from error


def _no_schema(annotation: object, *, of: str = "") -> NoSchema:
    name = annotation if isinstance(annotation, str) else f"`{_name_of(annotation)}`"
    fix = "Use str, int, float, bool, Literal, Enum, list, dict, date and time types, dataclasses, TypedDict or pydantic models"
    return NoSchema(f"{of}{name} cannot be described by a JSON Schema", fix)


def _name_of(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
