"""Turns a tool's schemas into strict checks of what a model wrote and of what the tool returned.

Each schema is compiled once for a bundle and tool, and forgotten when others are used more. Nothing is coerced: the
text `"5"` is no number. Arguments leave as canonical JSON, so equal calls have equal digests.
"""

from functools import lru_cache
from typing import Final, cast

import jsonschema_rs
import msgspec

from cattlegrid.calls.problems import Schema, argument_problems, result_problems
from cattlegrid.calls.strict_json import JsonRefused, canonical, parse
from cattlegrid.core.bundle import Tool
from cattlegrid.core.errors import ConfigurationError, ToolArgumentsInvalid, ToolResultInvalid

_ARGUMENT_BYTES: Final = 65_536
_RESULT_BYTES: Final = 65_536
_ERRORS_READ: Final = 50


class _Compiled(msgspec.Struct, frozen=True):
    schema: Schema
    validator: jsonschema_rs.Validator

    def errors(self, value: object) -> list[jsonschema_rs.ValidationError]:
        """What is wrong with the value, the first fifty things; usually nothing."""
        if self.validator.is_valid(value):
            return []
        found = self.validator.iter_errors(value)
        return [error for error, _ in zip(found, range(_ERRORS_READ), strict=False)]


class ToolSchemas:
    """Checks arguments and results; one instance serves the process."""

    def __init__(self, *, kept: int = 512, argument_bytes: int = _ARGUMENT_BYTES) -> None:
        self._argument_bytes = argument_bytes
        self._compiled = lru_cache(maxsize=kept)(_compiled)

    def arguments(self, bundle: str, tool: Tool, raw_json: str) -> str:
        """Canonical JSON of what a model wrote as arguments; nothing at all counts as no arguments.

        Args:
            bundle: digest of the bundle that the tool belongs to.
            tool: its manifest.
            raw_json: the text that the model wrote.

        Raises:
            ToolArgumentsInvalid: `message` is for the model and says what to mend.
            ConfigurationError: the schema itself is wrong.
        """
        try:
            if len(raw_json.encode("utf-8", "surrogatepass")) > self._argument_bytes:
                raise JsonRefused(f"they are longer than {self._argument_bytes} bytes")
            value = parse(raw_json if raw_json.strip() else "{}")
            accepted = canonical(value)
        except JsonRefused as error:
            raise _refused(tool, "are no acceptable JSON", [error.reason]) from error
        if not isinstance(value, dict):
            raise _refused(tool, "are no JSON object", [f'write {{"name": value}}, not {accepted[:60]}'])
        compiled = self._compiled(bundle, tool.name, tool.spec.parameters)
        errors = compiled.errors(cast("dict[str, object]", value))
        if errors:
            raise _refused(tool, "do not fit", argument_problems(errors, compiled.schema))
        return accepted

    def result(self, bundle: str, tool: Tool, value_json: str, *, max_bytes: int = _RESULT_BYTES) -> str:
        """The result as it came, once the declared shape accepts it; a tool that declares nothing may return anything.

        Raises:
            ToolResultInvalid: `detail` tells the difference; `message` tells nothing.
            ConfigurationError: the schema itself is wrong.
        """
        size_bytes = len(value_json.encode("utf-8", "surrogatepass"))
        if size_bytes > max_bytes:
            raise _mismatch(tool, [f"{size_bytes} bytes where at most {max_bytes} are allowed"])
        try:
            value: object = msgspec.json.decode(value_json)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _mismatch(tool, [f"no acceptable JSON: {error}"]) from error
        if tool.returns:
            compiled = self._compiled(bundle, tool.name, tool.returns)
            errors = compiled.errors(value)
            if errors:
                raise _mismatch(tool, result_problems(errors, compiled.schema))
        return value_json


def _compiled(bundle: str, tool: str, schema_json: str) -> _Compiled:
    try:
        schema = msgspec.json.decode(schema_json, type=dict[str, object])
        validator = jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(
            "The agent has a tool that cannot be used.", detail=f"schema of {tool} in {bundle[:8]}: {error}"
        ) from error
    return _Compiled(schema, validator)


def _refused(tool: Tool, what: str, problems: list[str]) -> ToolArgumentsInvalid:
    lines = "".join(f"\n- {problem}" for problem in problems)
    return ToolArgumentsInvalid(
        f"The arguments of `{tool.name}` {what}, so it was not called. Mend this and call it again:{lines}"
    )


def _mismatch(tool: Tool, problems: list[str]) -> ToolResultInvalid:
    return ToolResultInvalid(
        "The tool returned something of another shape than it declares.",
        detail=f"{tool.name}: {'; '.join(problems)}",
    )
