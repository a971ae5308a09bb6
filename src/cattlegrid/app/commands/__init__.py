"""The commands, one module each with a `typer.Typer` named `app`; `app/cli.py` lists them and imports one at a time."""
