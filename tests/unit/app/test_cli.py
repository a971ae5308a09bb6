"""The command line itself: what it lists, how it explains itself, how it starts and how it fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from cattlegrid.app.cli import COMMANDS, program, run

PROGRAM = [sys.executable, "-m", "cattlegrid.app.cli"]
HEAVY = (
    "fastapi",
    "starlette",
    "uvicorn",
    "aiohttp",
    "sqlalchemy",
    "pydantic",
    "httpx2",
    "sqlite3",
    "cryptography",
    "rich",
)
PROMISED = {
    *("init", "lint", "bundle", "dev", "serve", "chat", "sessions", "runs", "approvals", "users", "replay"),
    *("verify", "keys", "audit", "model", "db", "worker"),
}


def words_of_commands() -> Iterator[list[str]]:
    """The words that name each command, groups and what is below them."""
    for listed in COMMANDS:
        yield [listed.name]
        yield from ([listed.name, name] for name in _below(listed.module))


def _below(module: str) -> list[str]:
    found: Any = __import__(module, fromlist=["app"])
    command = get_command(found.app)
    return list(command.commands) if isinstance(command, TyperGroup) else []


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in no project, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.requirement("cli:commands")
def test_every_command_that_is_promised_is_there() -> None:
    assert {listed.name for listed in COMMANDS} == PROMISED
    assert set(program().commands) == PROMISED


@pytest.mark.requirement("cli:commands")
@pytest.mark.parametrize("words", list(words_of_commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    printed = capsys.readouterr()
    text = printed.out
    examples = text.partition("Examples:\n")[2].splitlines()
    assert [line for line in examples if f"cattlegrid {words[0]}" in line], text
    assert printed.err == ""
    assert max(len(line) for line in text.splitlines()) <= 80 + 40, (
        "prose is wrapped; only examples may be longer"
    )


def test_the_line_that_lists_a_command_begins_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    for listed in COMMANDS:
        run([listed.name, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert listed.help.rstrip(".").split(";")[0].split(",")[0] in said, listed.name


def test_without_a_command_the_help_is_shown_and_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    told = capsys.readouterr()
    assert "Commands:" in told.out + told.err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cattlegrid 0.")


@pytest.mark.requirement("cli:errors")
def test_a_command_that_does_not_exist_is_answered_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["rnus"]) == 2
    assert "Did you mean 'runs'?" in capsys.readouterr().err


@pytest.mark.requirement("cli:errors")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("runs list", 1, "make one with `cattlegrid init NAME`"),
        ("dev", 1, "make one with `cattlegrid init NAME`"),
        ("chat shop hello", 1, "make one with `cattlegrid init NAME`"),
        ("verify", 1, "make one with `cattlegrid init NAME`"),
        ("keys list", 1, "make one with `cattlegrid init NAME`"),
        ("runs show --nothing", 2, "No such option: --nothing"),
        ("chat", 2, "Missing argument"),
        ("runs list --limit 0", 2, "--limit"),
        ("--url http://127.0.0.1:9 runs list", 1, "Give --key, or set CATTLEGRID_KEY"),
        ("--url http://127.0.0.1:9 --key cg_x runs list", 1, "No server answers at http://127.0.0.1:9"),
        ("model serve --persona nobody", 1, "careful, gullible"),
        ("users erase kim", 1, "--yes"),
        ("approvals approve last --arguments [1]", 1, "must be a JSON object"),
        ("chat shop --json", 1, "--json needs a message"),
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_a_mistake_is_one_sentence_with_what_to_do_and_no_traceback(
    line: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert "Traceback" not in told.err
    if code == 1:
        assert len(told.err.splitlines()) == 1


@pytest.mark.usefixtures("nowhere")
def test_a_traceback_is_shown_to_those_who_ask_for_it() -> None:
    with pytest.raises(Exception, match=r"cattlegrid\.yaml"):
        run(["--debug", "runs", "list"])


def loaded_after(code: str) -> set[str]:
    """The heavy packages that are loaded once a new interpreter has run some code."""
    script = f"import sys\n{code}\nprint('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_and_helping_load_nothing_heavy() -> None:
    assert loaded_after("from cattlegrid.app.cli import run") == set()
    assert loaded_after("from cattlegrid.app.cli import run\nrun(['--help'])") == set()


def test_a_command_that_talks_to_a_server_loads_no_server() -> None:
    loaded = loaded_after("import cattlegrid.app.commands.runs")
    assert loaded & {"fastapi", "uvicorn", "aiohttp", "sqlalchemy", "pydantic", "sqlite3"} == set()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cattlegrid ap", "approvals"),
        ("cattlegrid approvals rej", "reject"),
        ("cattlegrid runs show --f", "--full"),
    ],
)
def test_the_shell_completes_commands_and_options(words: str, found: str) -> None:
    environ = {
        **os.environ,
        "_CATTLEGRID_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(PROGRAM, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == [found]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """What `cattlegrid ... | head -1` does when there is more to say."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([*PROGRAM, "--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, complaints = process.communicate(timeout=30)
    assert complaints == b""


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = typer.Typer()

    @interrupted.command()
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cattlegrid.app.cli.program", lambda: get_command(interrupted))
    assert run([]) == 130
    assert capsys.readouterr().err == ""
