"""`cattlegrid model serve`: the scripted model as a server of its own."""

from typing import Annotated

import typer

from cattlegrid.app.options import command_group, examples
from cattlegrid.app.terminal import err, out
from cattlegrid.testing.scripted.app import NOTICE, create_app
from cattlegrid.testing.scripted.personas import PERSONAS
from cattlegrid.testing.scripted.server import DEFAULT_PORT, LOOPBACK, run

app = command_group(
    "Run the scripted model, a test instrument.",
    "cattlegrid model serve --persona gullible",
    "cattlegrid model serve --help",
)


@app.callback()
def model() -> None:
    """Run the scripted model, a test instrument that speaks the OpenAI chat format and follows rules."""


@app.command(
    epilog=examples(
        "cattlegrid model serve",
        "cattlegrid model serve --persona flaky --seed 7 --latency 0.2",
        "OPENAI_BASE_URL=http://127.0.0.1:8710/v1 cattlegrid dev",
    )
)
def serve(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = DEFAULT_PORT,
    persona: Annotated[str, typer.Option(help=f"Who it plays: {', '.join(PERSONAS)}.")] = "careful",
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    latency_s: Annotated[
        float, typer.Option("--latency", min=0, help="Seconds until an answer begins.")
    ] = 0.0,
    fault: Annotated[str, typer.Option(help="KIND;count=N;at=K;delay=S for every request.")] = "",
) -> None:
    """Serve the scripted model at a loopback address until Ctrl-C.

    Prints the address for OPENAI_BASE_URL. The same conversation always gets the same answer.
    """
    app = create_app(persona=persona, seed=seed, latency_s=latency_s, fault=fault)
    err().print(NOTICE, style="yellow")
    run(app, host=LOOPBACK, port=port, on_ready=lambda url: out().print(url))
