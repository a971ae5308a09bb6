"""`cattlegrid init`: make a project with an agent in it."""

from typing import Annotated

import typer

from cattlegrid.app.options import JsonOption, examples, options_of, single_command
from cattlegrid.app.scaffold import write_scaffold
from cattlegrid.app.terminal import out, print_json
from cattlegrid.core.errors import ConfigurationError

app = single_command()


@app.command(
    epilog=examples(
        "cattlegrid init shop && cd shop",
        "cattlegrid lint",
        "cattlegrid dev --detach",
        'cattlegrid chat shop "Order 17 came broken, I want my 79.90 back"',
    )
)
def init(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(help="The name of the agent, and of the folder that is made.")],
    as_json: JsonOption = False,
) -> None:
    """Make a project with an agent in it: a small, complete one, to be changed into your own.

    Writes into a new or empty folder only.
    """
    target = options_of(context).folder / name
    try:
        written = write_scaffold(target, name)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}.") from error
    if as_json:
        print_json({"project": str(target), "agent": name, "files": [str(path) for path in written]})
        return
    for path in written:
        out().print(f"  {path}", style="dim")
    out().print(f"Made {target}. Next: cd {target} && cattlegrid lint")
