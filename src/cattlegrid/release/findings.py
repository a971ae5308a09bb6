"""Collects what is wrong with an agent while it is looked at, so that everything is told at once."""

from cattlegrid.core.errors import Problem


class Findings:
    """Problems, which refuse a bundle, and warnings, which do not. `folder` stands before every file's name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Ordered by file and line, each once."""
        return _ordered(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Ordered by file and line, each once."""
        return _ordered(self._warnings)

    def wrong(self, file: str, line: int | None, message: str, fix: str, *, key: str = "") -> None:
        """Note something that refuses the bundle; `file` is seen from the agent's folder."""
        self._problems.append(self._here(file, line, message, fix, key=key))

    def doubtful(self, file: str, line: int | None, message: str, fix: str, *, key: str = "") -> None:
        """Note something that is probably not meant."""
        self._warnings.append(self._here(file, line, message, fix, key=key))

    def add(self, *problems: Problem) -> None:
        """Note problems whose files are seen from the agent's folder."""
        for problem in problems:
            self.wrong(problem.file, problem.line, problem.message, problem.fix, key=problem.key)

    def _here(self, file: str, line: int | None, message: str, fix: str, *, key: str) -> Problem:
        name = f"{self._folder}/{file}" if self._folder else file
        return Problem(file=name, line=line, key=key, message=message, fix=fix)


def _ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line or 0)))
