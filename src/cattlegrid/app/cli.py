"""`cattlegrid`: finds the command that is asked for, runs it, and turns what goes wrong into one line and an exit code.

Commands live in `commands/`, one module each, with a `typer.Typer` named `app`. They are listed here by name and one
line, and imported only when they are invoked, so that help and completion stay quick. Exit codes: 0 fine, 1 it did not
work, 2 the command line is wrong, 130 interrupted; commands that judge have their own and say so in their help.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer import TyperException
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cattlegrid.app.options import Options, examples
from cattlegrid.core.errors import BundleInvalid, CattlegridError

_PROGRAM: Final = "cattlegrid"
_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130


class Listed(NamedTuple):
    """A command as the help lists it."""

    name: str
    help: str

    @property
    def module(self) -> str:
        return f"cattlegrid.app.commands.{self.name}"


COMMANDS: Final = (
    Listed("init", "Make a project with an agent in it."),
    Listed("lint", "Check the agents' files and say what they may do."),
    Listed("dev", "Serve the project on this machine while you work on it."),
    Listed("chat", "Talk to an agent."),
    Listed("runs", "See what happened in a run, step by step; cancel one."),
    Listed("sessions", "See and close conversations."),
    Listed("approvals", "Decide on calls that wait for a person."),
    Listed("replay", "Run a recorded session again and compare every step."),
    Listed("bundle", "Build, compare and move versions of an agent."),
    Listed("serve", "Serve the project for others."),
    Listed("worker", "Do the work that no request waits for, beside servers on PostgreSQL."),
    Listed("keys", "Make and revoke API keys."),
    Listed("users", "Erase what is stored about a user."),
    Listed("audit", "See what those who run the service did."),
    Listed("db", "Look after the journal's database."),
    Listed("verify", "Check that the journal is whole and unchanged."),
    Listed("model", "Run the scripted model, a test instrument."),
)
_ROOT_EXAMPLES: Final = examples(
    "cattlegrid init shop && cd shop",
    "cattlegrid dev --detach",
    'cattlegrid chat shop "Where is my order 17?"',
    "cattlegrid runs show last",
)


class _LazyCommand(TyperCommand):
    """Stands for a command in lists; its module is imported when somebody invokes it or asks for more."""

    def __init__(self, listed: Listed) -> None:
        super().__init__(listed.name, help=listed.help)
        self._module = listed.module

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,  # noqa: ANN401 - typer's type of a context is private
        *,
        resilient_parsing: bool = False,
        **_: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """The context of the real command: from here on, that one is invoked or completed."""
        module = importlib.import_module(self._module)
        command = get_command(module.app)
        return command.make_context(info_name, args, parent=parent, resilient_parsing=resilient_parsing)


app: Final = typer.Typer(
    name=_PROGRAM,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "cattlegrid init shop && cd shop",
        "cattlegrid dev --detach",
        'cattlegrid chat shop "Where is my order 17?"',
        "cattlegrid runs show last",
    ),
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    folder: Annotated[
        Path, typer.Option("--folder", "-C", help="Where to look for the project, upwards.")
    ] = Path(),
    url: Annotated[
        str, typer.Option(help="A running server instead of the project's own.", envvar="CATTLEGRID_URL")
    ] = "",
    key: Annotated[
        str, typer.Option(help="An API key instead of the project's own.", envvar="CATTLEGRID_KEY")
    ] = "",
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", envvar="CATTLEGRID_DEBUG")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Run LLM agents that you can trust."""
    context.obj = Options(folder=folder, url=url, key=key, debug=debug)
    if version:
        typer.echo(f"{_PROGRAM} {metadata.version(_PROGRAM)}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(_USAGE)


def program() -> TyperGroup:
    """The whole command line, with none of its commands imported."""
    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError("an app with a callback is a group")
    for listed in COMMANDS:
        group.add_command(_LazyCommand(listed))
    return group


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. What goes wrong is told on standard error."""
    debug = bool(os.environ.get("CATTLEGRID_DEBUG")) or "--debug" in arguments
    try:
        result = program().main(list(arguments), prog_name=_PROGRAM, standalone_mode=False)
    except TyperException as error:
        return _tell_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except CattlegridError as error:
        if debug:
            raise
        _tell(_sentence(error))
        return _FAILED
    except BrokenPipeError:
        # The reader has gone. What is still buffered must not raise once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:  # the top of a process: nobody may meet a traceback
        if debug:
            raise
        _tell(f"Something that nobody foresaw: {type(error).__name__}: {error}. See more with `--debug`.")
        return _FAILED
    return result if isinstance(result, int) else 0


def _sentence(error: CattlegridError) -> str:
    """What to say of an error. The detail is for operators, and who sits here is one."""
    if not isinstance(error, BundleInvalid):
        return str(error)
    first = error.problems[0]
    if len(error.problems) == 1 and first.line is None and not first.key:
        return f"{first.message}. {first.fix}."
    return str(error.message)


def _tell(text: str) -> None:
    typer.echo(f"cattlegrid: {text}", err=True)


def _tell_usage(error: TyperException) -> int:
    show = getattr(error, "show", None)
    if callable(show):
        show()
    else:
        _tell(error.format_message())
    return error.exit_code


def main() -> None:
    """The entry point of the program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
