"""`cattlegrid approvals`: decide on calls that wait for a person."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, cast

import msgspec
import typer

from cattlegrid.app.client import LAST, WAITING, one
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.options import JsonOption, LimitOption, Options, command_group, examples, options_of
from cattlegrid.app.render import approval_text, approvals_list, decided_line, waiting_line
from cattlegrid.app.talk import Following
from cattlegrid.app.terminal import clean, err, out, print_json, working
from cattlegrid.app.views import Approval, Run
from cattlegrid.core.errors import InvalidRequest

app = command_group(
    "Decide on calls that wait for a person.",
    "cattlegrid approvals list",
    "cattlegrid approvals show last",
    "cattlegrid approvals approve last",
    'cattlegrid approvals reject last --note "No photo"',
)
ApprovalArgument = Annotated[
    str, typer.Argument(help="An approval's id, its beginning, or `last`: the newest that waits.")
]
NoteOption = Annotated[str, typer.Option("--note", help="Why, for the record and the agent.")]


class _Decision(msgspec.Struct, frozen=True, kw_only=True):
    decision: str
    note: str = ""
    arguments: dict[str, object] | None = None


@app.command("list", epilog=examples("cattlegrid approvals list", "cattlegrid approvals list --all --json"))
def list_approvals(
    context: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List calls that wait for a person, newest first."""
    asyncio.run(_list(options_of(context), everything=everything, limit=limit, as_json=as_json))


@app.command(epilog=examples("cattlegrid approvals show last", "cattlegrid approvals show last --json"))
def show(context: typer.Context, approval: ApprovalArgument = LAST, *, as_json: JsonOption = False) -> None:
    """Show one call with what a decision needs: its exact arguments, the rule that holds it, who asked."""
    asyncio.run(_show(options_of(context), approval, as_json=as_json))


@app.command(
    epilog=examples(
        "cattlegrid approvals approve last",
        'cattlegrid approvals approve last --note "Photo seen"',
        """cattlegrid approvals approve last --arguments '{"order": 17, "amount": 40}'""",
    )
)
def approve(
    context: typer.Context,
    approval: ApprovalArgument,
    *,
    note: NoteOption = "",
    arguments: Annotated[str, typer.Option(help="Approve with these arguments instead: a JSON object.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a call be made, then wait for its run to go on. It holds for exactly the arguments shown."""
    given = _arguments(arguments) if arguments else None
    decision = _Decision(decision="modify" if given is not None else "approve", note=note, arguments=given)
    asyncio.run(_decide(options_of(context), approval, decision, as_json=as_json))


@app.command(epilog=examples('cattlegrid approvals reject last --note "No photo"'))
def reject(
    context: typer.Context, approval: ApprovalArgument, *, note: NoteOption = "", as_json: JsonOption = False
) -> None:
    """Do not let a call be made; the agent is told, and goes on without. A call in doubt: it did not happen."""
    asyncio.run(
        _decide(options_of(context), approval, _Decision(decision="reject", note=note), as_json=as_json)
    )


@app.command(epilog=examples('cattlegrid approvals done last --note "Seen in the bank account"'))
def done(
    context: typer.Context, approval: ApprovalArgument, *, note: NoteOption = "", as_json: JsonOption = False
) -> None:
    """Confirm that a call in doubt did happen; it is not made again."""
    asyncio.run(
        _decide(options_of(context), approval, _Decision(decision="done", note=note), as_json=as_json)
    )


async def _list(options: Options, *, everything: bool, limit: int, as_json: bool) -> None:
    status = () if everything else WAITING
    async with connect(options, Purpose()) as client:
        if as_json:
            print_json(await client.get("/approvals", status=status, limit=limit))
            return
        approvals = await client.approvals(status=status, limit=limit)
    if approvals:
        out().print(approvals_list(approvals, now=datetime.now(UTC)), soft_wrap=True)
    else:
        err().print(
            "No call waits for a person." if not everything else "No call has waited for a person yet."
        )


async def _show(options: Options, given: str, *, as_json: bool) -> None:
    async with connect(options, Purpose()) as client:
        approval_id = await client.id_of("approval", given)
        if as_json:
            print_json(await client.get(f"/approvals/{approval_id}"))
            return
        approval = await client.approval(approval_id)
    out().print(approval_text(approval, now=datetime.now(UTC)), soft_wrap=True)


async def _decide(options: Options, given: str, decision: _Decision, *, as_json: bool) -> None:
    body = {name: value for name, value in msgspec.structs.asdict(decision).items() if value}
    async with connect(options, Purpose(runs=True)) as client:
        approval_id = await client.id_of("approval", given)
        with working("The run goes on"):
            run = one(await client.post(f"/approvals/{approval_id}/decision", body), Run)
            run = await Following(client, _Silence()).go_on(run.id)
        if as_json:
            print_json(await client.get(f"/runs/{run.id}"))
            return
    decided = next((approval for approval in run.approvals if approval.id == approval_id), None)
    _tell(run, decided)


def _tell(run: Run, decided: Approval | None) -> None:
    console = out()
    if decided is not None:
        console.print(decided_line(run, decided), soft_wrap=True)
    if run.output:
        console.print(clean(run.output), soft_wrap=True)
    if run.waiting:
        console.print(waiting_line(run), soft_wrap=True)


def _arguments(text: str) -> dict[str, object]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"--arguments is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest('--arguments must be a JSON object with all arguments, such as {"order": 17}.')
    return cast("dict[str, object]", value)


class _Silence:
    """Hears nothing: the result is told at the end."""

    def text(self, piece: str) -> None: ...

    def void(self) -> None: ...

    def activity(self, what: str) -> None: ...
