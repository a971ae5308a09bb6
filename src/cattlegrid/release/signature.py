"""Turns a Python function into what can be said about calling it: its parameters, their types, and what it returns.

Used when a bundle is built, to derive schemas and report what is wrong, and by the tool gateway, to convert arguments.
"""

import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.tools import Context

RESULT: Final = "result"
"""The parameter by which an undo tool receives the result of the call that it takes back."""


class Missing(msgspec.Struct, frozen=True):
    """Stands for what a function does not declare."""


MISSING: Final = Missing()


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter that the model, or a recorded call, gives."""

    name: str
    type: object
    """The annotation, resolved."""
    default: object = MISSING

    @property
    def required(self) -> bool:
        return self.default is MISSING


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is called."""

    parameters: dict[str, Parameter]
    """By name, in their order, without the `Context`."""
    context: str | None
    """The parameter that receives the `Context`."""
    returns: object
    """The annotation, resolved; MISSING when there is none."""
    is_async: bool


class NoSignature(Exception):
    """A function that cannot be a tool. `complaints` are pairs of what is wrong and what to do."""

    def __init__(self, complaints: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(what for what, _ in complaints))
        self.complaints = complaints


def read_signature(function: Callable[..., object]) -> Signature:
    """Read a signature. Raises NoSignature with everything that is wrong with it."""
    plain = inspect.unwrap(function)
    if not inspect.isfunction(plain):
        raise NoSignature([("A tool must be a plain function", "Write `def` or `async def`")])
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise NoSignature([("The function yields, but a tool returns one value", "Return a list")])
    declared = inspect.signature(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        said = f"An annotation cannot be resolved: {error}"
        raise NoSignature(
            [(said, "Import the type when the module runs, not only for type checking")]
        ) from error
    complaints = list(_complaints(declared, hints))
    if complaints:
        raise NoSignature(complaints)
    contexts = [name for name in declared.parameters if is_context(hints[name])]
    return Signature(
        parameters={
            name: Parameter(
                name=name,
                type=hints[name],
                default=MISSING if parameter.default is inspect.Parameter.empty else parameter.default,
            )
            for name, parameter in declared.parameters.items()
            if name not in contexts
        },
        context=contexts[0] if contexts else None,
        returns=hints.get("return", MISSING),
        is_async=inspect.iscoroutinefunction(plain),
    )


def is_context(annotation: object) -> bool:
    """Whether a parameter with this annotation receives the `Context`."""
    return annotation is Context


def line_of(function: Callable[..., object]) -> tuple[Path, int] | None:
    """File and line of a function's `def`; None when it was not made by a file."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return None
    path, first = Path(code.co_filename), int(code.co_firstlineno)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return path, first
    # The first line of a decorated function is its first decorator.
    starts = (
        number
        for number, line in enumerate(lines[first - 1 :], first)
        if line.lstrip().startswith(("def ", "async def "))
    )
    return path, next(starts, first)


def _complaints(declared: inspect.Signature, hints: dict[str, object]) -> Iterator[tuple[str, str]]:
    contexts = [name for name in declared.parameters if is_context(hints.get(name))]
    if len(contexts) > 1:
        yield f"Two parameters are a `Context`: `{contexts[0]}` and `{contexts[1]}`", "Keep one of them"
    for name, parameter in declared.parameters.items():
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind)
        if star:
            yield (
                f"`{star}{name}` takes any arguments",
                "Name each argument, so that a model can be told of it",
            )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            yield f"`{name}` can only be given by position", "Remove the `/`"
        elif name not in hints:
            yield f"The parameter `{name}` has no type", f"Annotate it, for example `{name}: str`"
