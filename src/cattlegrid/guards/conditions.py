"""Turns the text of an `approve` or `deny` line into a condition over a tool's arguments: `amount > 50`.

The language is a small part of Python's expressions: argument names, numbers, texts, `true`, `false`, comparisons,
`and`, `or`, `not`, `in` with a list, parentheses; `always` alone is every call. Nothing is evaluated by Python itself.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_WORDS: Final[dict[str, object]] = {"true": True, "false": False, "True": True, "False": False}
_LONGEST: Final = 500


class Undecided(Exception):
    """The condition cannot be judged with these arguments; whoever asks takes the strict side."""


class Condition(msgspec.Struct, frozen=True):
    """A parsed condition; `text` is as the author wrote it."""

    text: str
    expression: ast.expr | None
    """None for `always`."""

    def met(self, arguments: Mapping[str, object]) -> bool:
        """Whether a call with these arguments meets the condition.

        Raises:
            Undecided: an argument is absent or of a kind that cannot be compared.
        """
        if self.expression is None:
            return True
        try:
            return _truth(self.expression, arguments)
        except (KeyError, TypeError) as error:
            raise Undecided(self.text) from error


def parse(text: str) -> Condition:
    """Parse a condition. Raises ValueError with a sentence that says what is not understood."""
    stripped = text.strip()
    if stripped == "always":
        return Condition(text=stripped, expression=None)
    if len(stripped) > _LONGEST:
        raise ValueError(f"a condition may have {_LONGEST} characters, this one has {len(stripped)}")
    try:
        expression = ast.parse(stripped, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"`{stripped}` is not a condition; write for example `amount > 50`") from error
    try:
        _check(expression, truth=True)
    except RecursionError as error:
        raise ValueError(f"`{stripped}` is nested too deeply") from error
    return Condition(text=stripped, expression=expression)


def names(condition: Condition) -> frozenset[str]:
    """The arguments that a condition looks at."""
    if condition.expression is None:
        return frozenset()
    found = (part.id for part in ast.walk(condition.expression) if isinstance(part, ast.Name))
    return frozenset(name for name in found if name not in _WORDS)


def _check(part: ast.expr, *, truth: bool) -> None:
    """Refuse everything outside the language; `truth` says whether a yes or no is wanted here."""
    if isinstance(part, ast.BoolOp) and truth:
        for value in part.values:
            _check(value, truth=True)
    elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not) and truth:
        _check(part.operand, truth=True)
    elif isinstance(part, ast.Compare) and truth:
        _check_comparison(part)
    elif isinstance(part, ast.Name) or (not truth and _is_literal(part)):
        return
    else:
        raise ValueError(
            f"`{ast.unparse(part)}` cannot be used in a condition; write for example `amount > 50`"
        )


def _check_comparison(part: ast.Compare) -> None:
    _check(part.left, truth=False)
    for comparison, right in zip(part.ops, part.comparators, strict=True):
        if type(comparison) not in {*_COMPARISONS, ast.In, ast.NotIn}:
            raise ValueError(f"`{ast.unparse(part)}`: use ==, !=, <, <=, >, >=, in or not in")
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not all(
                _is_literal(item) for item in right.elts
            ):
                raise ValueError(
                    f"`{ast.unparse(part)}`: `in` takes a list, for example `country in ['DE', 'AT']`"
                )
        else:
            _check(right, truth=False)


def _is_literal(part: ast.expr) -> bool:
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
        part = part.operand
        return isinstance(part, ast.Constant) and isinstance(part.value, int | float)
    return isinstance(part, ast.Constant) and isinstance(part.value, int | float | str)


def _truth(part: ast.expr, arguments: Mapping[str, object]) -> bool:
    """Yes or no. Every part is judged, so that an absent argument is noticed wherever it stands."""
    match part:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, arguments)
        case ast.BoolOp(op=ast.And(), values=values):
            return False not in [_truth(value, arguments) for value in values]
        case ast.BoolOp(values=values):
            return True in [_truth(value, arguments) for value in values]
        case ast.Compare():
            return _compare(part, arguments)
        case _:
            value = _value(part, arguments)
            if not isinstance(value, bool):
                raise TypeError(f"{type(value).__name__} is neither yes nor no")
            return value


def _value(part: ast.expr, arguments: Mapping[str, object]) -> object:
    match part:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _WORDS[name] if name in _WORDS else arguments[name]
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, arguments) for item in items]
        case _:
            raise TypeError(type(part).__name__)


def _compare(part: ast.Compare, arguments: Mapping[str, object]) -> bool:
    values = [_value(value, arguments) for value in (part.left, *part.comparators)]
    pairs = zip(part.ops, values, values[1:], strict=False)
    return False not in [_meets(comparison, left, right) for comparison, left, right in pairs]


def _meets(comparison: ast.cmpop, left: object, right: object) -> bool:
    """Whether two values compare so. Raises TypeError when they are of different kinds, or of none that compares."""
    if not isinstance(comparison, ast.In | ast.NotIn):
        if _kind(left) is not _kind(right):
            raise TypeError(f"{type(left).__name__} compared with {type(right).__name__}")
        return _COMPARISONS[type(comparison)](left, right)
    options = [option for option in cast("list[object]", right) if _kind(option) is _kind(left)]
    if not options:
        raise TypeError(f"{type(left).__name__} looked up among others")
    return (left in options) is isinstance(comparison, ast.In)


def _kind(value: object) -> type:
    """Numbers compare with numbers, texts with texts, yes or no with yes or no; nothing else compares."""
    for kind in (bool, str):
        if isinstance(value, kind):
            return kind
    if isinstance(value, int | float):
        return float
    raise TypeError(f"{type(value).__name__} does not compare")
