"""What every command shares on its command line: the options before the command's name, and how examples are shown."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options that stand before the command's name."""

    folder: Path = Path()
    """Where to look for the project, upwards."""
    url: str = ""
    key: str = ""
    debug: bool = False
    tenant: str = ""
    """Of commands that know of tenants; empty for the default one."""


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many at most.")]


def options_of(context: typer.Context) -> Options:
    """The options of this invocation."""
    found = context.find_object(Options)
    return found if found is not None else Options()


def examples(*lines: str) -> str:
    """The last part of a help text; the help keeps its line breaks."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def command_group(help_text: str, *lines: str) -> typer.Typer:
    """A command that has commands below it, with examples."""
    return typer.Typer(
        help=help_text,
        epilog=examples(*lines),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def single_command() -> typer.Typer:
    """A command without commands below it; give its function with `@app.command(epilog=examples(...))`."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
