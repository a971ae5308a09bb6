"""Turns the bytes of a YAML file into plain data and the line of each of its keys, so that errors can name the place.

Only what configuration needs: one document; mappings with text keys, lists, scalars. Tags of Python objects, duplicate
keys, merge keys and files that grow beyond bounds (aliases of aliases, https://en.wikipedia.org/wiki/Billion_laughs_attack)
are refused. Keys are kept as they are written, so that a tool named `on` is not the value true.
"""

from typing import Any, Final, cast

import msgspec
import yaml

from cattlegrid.core.errors import Problem

MAX_FILE_BYTES: Final = 256 * 1024
MAX_VALUES: Final = 10_000
"""Values of a document after its aliases are written out."""
MAX_DEPTH: Final = 20

_PLAIN_TAGS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

KeyPath = tuple[str | int, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read: `data` is None when it cannot be, and `problems` says why."""

    file: str
    data: object
    lines: dict[KeyPath, int]
    problems: tuple[Problem, ...] = ()

    def line_of(self, path: KeyPath) -> int | None:
        """The line (from 1) of a key, or of the nearest key around it; None for an empty document."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return None


def read_yaml(content: bytes, *, file: str) -> Document:
    """Read a document. Never raises: everything that is wrong becomes a `Problem` of the result."""
    if len(content) > MAX_FILE_BYTES:
        problem = Problem(
            file=file,
            line=None,
            key="",
            message=f"The file has {len(content):,} bytes, more than {MAX_FILE_BYTES:,}",
            fix="Move long texts into files of their own",
        )
        return Document(file=file, data=None, lines={}, problems=(problem,))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = _problem(file, line, "The file is not UTF-8 text", "Save it as UTF-8")
        return Document(file=file, data=None, lines={}, problems=(problem,))
    return _compose(text, file)


def _compose(text: str, file: str) -> Document:
    reader = _Reader(file)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        data = None if root is None else reader.value(root, loader, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = _problem(file, line, "There is a character that YAML does not allow", "Remove it")
        return Document(file=file, data=None, lines={}, problems=(problem,))
    except yaml.MarkedYAMLError as error:
        return Document(file=file, data=None, lines={}, problems=(_malformed(error, file),))
    except RecursionError:
        problem = _problem(file, 1, "Values are nested too deeply", "Flatten the file")
        return Document(file=file, data=None, lines={}, problems=(problem,))
    except _Refused as refused:
        return Document(file=file, data=None, lines={}, problems=(refused.problem,))
    if data is None and not reader.problems:
        reader.problems.append(_problem(file, 1, "The file is empty", "Write at least its required keys"))
    return Document(file=file, data=data, lines=reader.lines, problems=tuple(reader.problems))


class _Refused(Exception):
    """The document must not be read on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reader:
    """Builds plain data from the composed document and remembers lines and problems on the way."""

    def __init__(self, file: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._values = 0

    def value(self, element: yaml.Node, loader: yaml.SafeLoader, path: KeyPath) -> object:
        self._values += 1
        line = element.start_mark.line + 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            what = "more values" if self._values > MAX_VALUES else "values nested more deeply"
            message = f"The file has {what} than can be read; aliases count each time they are used"
            raise _Refused(_problem(self._file, line, message, "Write the values out, or fewer of them"))
        self.lines.setdefault(path, line)
        if isinstance(element, yaml.CollectionNode) and element.tag not in _PLAIN_TAGS:
            message = f"The tag {element.tag.removeprefix('tag:yaml.org,2002:')} is not supported"
            self._add(line, path, message, "Write a plain list or mapping")
        if isinstance(element, yaml.MappingNode):
            return self._mapping(element, loader, path)
        if isinstance(element, yaml.SequenceNode):
            return [self.value(item, loader, (*path, place)) for place, item in enumerate(element.value)]
        return self._scalar(element, loader, path)

    def _mapping(
        self, element: yaml.MappingNode, loader: yaml.SafeLoader, path: KeyPath
    ) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in element.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                message = "Merge keys and keys that are no text are not supported"
                self._add(line, path, message, "Write the keys out")
                continue
            name = str(key.value)
            if name in found:
                first = self.lines[*path, name]
                self._add(
                    line,
                    (*path, name),
                    f"The key is written twice, first in line {first}",
                    "Keep one of them",
                )
                continue
            self.lines[*path, name] = line
            found[name] = self.value(item, loader, (*path, name))
        return found

    def _scalar(self, element: yaml.Node, loader: yaml.SafeLoader, path: KeyPath) -> object:
        try:
            return cast(Any, loader).construct_object(element)
        except (
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ) as error:  # what PyYAML lets through
            self._add(
                element.start_mark.line + 1, path, f"The value cannot be read: {error}", "Put it in quotes"
            )
            return str(element.value)

    def _add(self, line: int, path: KeyPath, message: str, fix: str) -> None:
        self.problems.append(_problem(self._file, line, message, fix, key=dotted(path)))


def dotted(path: KeyPath) -> str:
    """A key path for people: `models.default`, `tools[2]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _malformed(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part)
    if "tag" in said:
        fix = "Write plain values: text, numbers, true or false, lists and mappings"
    elif "\\t" in said:
        fix = "Indent with spaces, not tabs"
    else:
        fix = "Check indentation, colons and quotes in this line and the one before"
    return _problem(file, mark.line + 1 if mark else 1, f"This is not valid YAML: {said}", fix)


def _problem(file: str, line: int, message: str, fix: str, *, key: str = "") -> Problem:
    return Problem(file=file, line=line, key=key, message=message, fix=fix)
