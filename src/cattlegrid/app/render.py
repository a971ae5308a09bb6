"""Turns what the server tells into what people read: tables, the tree of a run, one-line summaries. Decides nothing."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, cast

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from cattlegrid.app.terminal import ago, clean, count, one_line, seconds
from cattlegrid.app.views import ApiKey, Approval, AuditLine, Difference, Replay, Run, Session, Step
from cattlegrid.core.money import format_usd

_STYLES: Final = {
    "completed": "green",
    "done": "green",
    "approve": "green",
    "modify": "green",
    "held": "yellow",
    "dead": "red",
    "pending": "yellow",
    "in_doubt": "yellow",
    "partial": "yellow",
    "running": "cyan",
    "queued": "cyan",
    "open": "cyan",
    "failed": "red",
    "denied": "red",
    "refused": "red",
    "reject": "red",
}
_DECISIONS: Final = {
    "approve": "approved",
    "modify": "approved with other arguments",
    "reject": "rejected",
    "done": "confirmed as done",
    "expired": "expired",
    "void": "no longer needed",
    "pending": "waits for a person",
    "in_doubt": "in doubt: nobody knows whether it took effect",
}
_IN_DOUBT: Final = "in_doubt"
_CHOICES: Final = {
    "pending": {"approve": "", "reject": ""},
    _IN_DOUBT: {
        "done": "it did happen",
        "reject": "it did not happen",
        "approve": "make the call again",
    },
}
_MODEL_KINDS: Final = frozenset({"chat", "summary"})
_SHORT: Final = 16
"""A type prefix, the ten characters of the time and two more: unique but for the same instant."""


# --- one line ---------------------------------------------------------------------------------------------------------


def call_text(tool: str, arguments: object) -> str:
    """`refund(order=17, amount=79.9)` from a tool's name and its arguments, as JSON text or value."""
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments, parse_float=_Spelled)
        except ValueError:
            return f"{one_line(tool)}({one_line(arguments)})"
    if not isinstance(value, dict):
        return f"{one_line(tool)}({'' if value is None else _argument(value)})"
    named = cast("dict[str, object]", value)
    inside = ", ".join(f"{one_line(name)}={_argument(part)}" for name, part in named.items())
    return f"{one_line(tool)}({inside})"


def figures(run: Run) -> str:
    """`2 model calls · 1.9 s · $0.0031`."""
    return " · ".join(
        (count(run.model_calls, "model call"), seconds(run.active_s), format_usd(run.cost_nano_usd))
    )


def decided_line(run: Run, approval: Approval) -> Text:
    """What came of a decision: `refund(order=17, amount=79.9) done once · 2 model calls · 1.9 s · $0.0031`."""
    step = next((step for step in run.steps or () if _belongs(step, approval)), None)
    call = call_text(approval.tool, step.given if step is not None and step.given else approval.arguments)
    if approval.status == "reject":
        what = "did not take effect, a person says" if approval.reason == _IN_DOUBT else "not made: rejected"
    elif approval.status == "done":
        what = "took effect, a person says"
    elif step is None:
        what = _DECISIONS.get(approval.status, approval.status)
    elif step.status == "done":
        what = "done once" if step.attempt <= 1 else f"done, after {step.attempt} attempts"
    else:
        what = f"{step.status}{f' ({one_line(step.why)})' if step.why else ''}"
    return Text(f"{call} {what} · {figures(run)}")


def waiting_line(run: Run) -> Text:
    """`[waiting: apr_...]`, one for each call that waits."""
    return Text("  ".join(f"[waiting: {approval.id}]" for approval in run.waiting), style="yellow")


def difference_text(report: Replay) -> Text:
    """`replay: identical, 7 of 7 steps`, or where it parts from the record."""
    steps = f"{report.steps} of {count(report.steps_total, 'step')}"
    if report.difference is None:
        return Text(f"replay: identical, {steps}")
    return Text(f"replay: different, {steps} identical\n").append_text(_difference(report.difference))


# --- tables -----------------------------------------------------------------------------------------------------------


def runs_table(runs: Sequence[Run], *, now: datetime, whole_ids: bool) -> Group:
    """Runs, one in a line."""
    rows = [
        (
            _id(run.id, whole=whole_ids),
            _status(run.status),
            Text(run.bundle.partition(" ")[0] or run.agent),
            Text(ago(run.started_at, now) if run.started_at is not None else "waits"),
            Text(format_usd(run.cost_nano_usd)),
            Text(one_line(run.input)),
        )
        for run in runs
    ]
    return _table(("RUN", "STATUS", "AGENT", "WHEN", "COST", "INPUT"), rows)


def sessions_table(sessions: Sequence[Session], *, now: datetime, whole_ids: bool) -> Group:
    """Sessions, one in a line."""
    rows = [
        (
            _id(session.id, whole=whole_ids),
            _status(session.status),
            Text(session.bundle),
            Text(ago(session.created_at, now)),
            Text(ago(session.updated_at, now)),
        )
        for session in sessions
    ]
    return _table(("SESSION", "STATUS", "AGENT", "BEGAN", "LAST USED"), rows)


def approvals_list(approvals: Iterable[Approval], *, now: datetime) -> Group:
    """Held calls, two lines each: the id must be typed, the call must be read."""
    parts: list[RenderableType] = []
    for approval in approvals:
        head = _bold(approval.id).append("  ").append_text(_decision(approval))
        head.append(f"  {one_line(approval.user)}, {ago(approval.requested_at, now)}", style="dim")
        parts.append(head)
        parts.append(Text(f"  {call_text(approval.tool, approval.arguments)}"))
    return Group(*parts)


def keys_table(keys: Sequence[ApiKey]) -> Group:
    """API keys, one in a line."""
    rows = [
        (
            Text(key.id),
            Text("revoked", style="red") if key.revoked_at else Text("valid", style="green"),
            Text(f"{key.created_at.astimezone():%Y-%m-%d}"),
            Text("any user" if key.act_as else one_line(key.user) or "(erased)"),
            Text(one_line(f"{', '.join(key.roles)}{f' · {key.label}' if key.label else ''}")),
        )
        for key in keys
    ]
    return _table(("KEY", "STATE", "MADE", "FOR", "ROLES"), rows)


def audit_table(lines: Sequence[AuditLine]) -> Group:
    """What operators did, one action in a line."""
    rows = [
        (
            Text(f"{line.at.astimezone():%Y-%m-%d %H:%M:%S}"),
            Text(one_line(line.who or line.by) or "(this machine)"),
            Text(line.action, style="bold"),
            Text(one_line(line.subject)),
            Text(line.outcome, style="" if line.outcome == "done" else "red"),
            Text(f"{line.credential} {line.credential_id}".strip(), style="dim"),
        )
        for line in lines
    ]
    return _table(("WHEN", "WHO", "ACTION", "SUBJECT", "OUTCOME", "SHOWED"), rows)


# --- one thing in full ------------------------------------------------------------------------------------------------


def run_tree(run: Run, *, full: bool = False) -> Tree:
    """Everything that happened in a run. Texts are cut at the line's end unless `full`."""
    head = _bold(run.id).append("  ").append_text(_status(run.status))
    if run.reason:
        head.append(f" ({one_line(run.reason)})")
    tree = Tree(head, guide_style="dim")
    tree.add(_shown(f"{run.bundle}, {run.session_id}", full=full, style="dim"))
    branch = tree.add(_named("input", run.input, full=full))
    for file in run.files:
        branch.add(
            _named(
                "file", f"{file.name}  {file.media_type}, {file.size_bytes:,} bytes, {file.ref}", full=full
            )
        )
    _add_guards(branch, _of("input", run.guards or ()), full=full)
    approvals = {approval.id.removeprefix("apr_"): approval for approval in run.approvals}
    for step in run.steps or ():
        _add_step(tree, step, approvals.get(step.id.removeprefix("stp_")), full=full)
    if run.output:
        branch = tree.add(_named("output", run.output, full=True))
        _add_guards(branch, _of("output", run.guards or ()), full=full)
    tokens = f"{run.usage.input_tokens:,} + {run.usage.output_tokens:,} tokens"
    calls = f"{count(run.model_calls, 'model call')} · {count(run.tool_calls, 'tool call')}"
    tree.add(
        Text(f"{calls} · {tokens} · {seconds(run.active_s)} · {format_usd(run.cost_nano_usd)}", style="bold")
    )
    return tree


def approval_text(approval: Approval, *, now: datetime) -> Text:
    """A held call with all that a decision needs."""
    text = _bold(approval.id).append("  ").append_text(_decision(approval)).append("\n")
    lines = {
        "call": call_text(approval.tool, approval.arguments),
        "why": approval.condition or approval.reason,
        "user": approval.user,
        "agent": approval.agent,
        "asked": ago(approval.requested_at, now),
        "expires": f"{approval.expires_at.astimezone():%Y-%m-%d %H:%M}" if approval.expires_at else "",
        "run": approval.run_id,
        "session": approval.session_id,
    }
    for name, value in lines.items():
        if value:
            text.append(f"  {name:<8}", style="dim").append(f"{one_line(value)}\n")
    for word, meaning in _CHOICES.get(approval.status, {}).items():
        text.append(f"  cattlegrid approvals {word} {approval.id}", style="cyan").append(
            f"  {meaning}\n", style="dim"
        )
    text.rstrip()
    return text


def session_text(session: Session, runs: Sequence[Run]) -> Text:
    """A session as the conversation that it is, oldest first."""
    text = _bold(session.id).append("  ").append_text(_status(session.status))
    text.append(f"  {session.bundle}\n", style="dim")
    for run in runs:
        text.append("\n  user   ", style="bold").append(f"{clean(run.input)}\n")
        text.append("  agent  ", style="bold").append(clean(run.output))
        if run.waiting:
            text.append_text(waiting_line(run))
        elif not run.output:
            text.append_text(_status(run.status))
        text.append(f"\n         {run.id} · {figures(run)}\n", style="dim")
    return text


# --- inside -----------------------------------------------------------------------------------------------------------


def _add_step(tree: Tree, step: Step, approval: Approval | None, *, full: bool) -> None:
    model = step.kind in _MODEL_KINDS
    title = Text()
    if model:
        title.append(f"{step.kind} ", style="bold").append(one_line(step.name))
    else:
        prefix = "" if step.kind == "execute_tool" else f"{step.kind} "
        title.append(prefix, style="bold").append(call_text(step.name, step.given or None))
    for part in _step_figures(step):
        title.append(f" · {part}", style="dim")
    if step.status != "done":
        title.append(" · ").append_text(_status(step.status))
    branch = tree.add(title if full else _cut(title))
    _add_guards(branch, step.guards, full=full)
    if approval is not None:
        held = Text().append(
            f"held for a person: {one_line(approval.condition or approval.reason)} · ", style="yellow"
        )
        held.append_text(_decision(approval))
        if approval.decided_by:
            held.append(f" by {one_line(approval.decided_by)[:_SHORT]}", style="dim")
        branch.add(held)
        if approval.note:
            branch.add(_named("note", approval.note, full=full))
    if step.why and not (approval is not None and step.why in {"approval", "approved", "in_doubt"}):
        branch.add(_named("why", step.why, full=full))
    if step.answer:
        branch.add(_shown(step.answer, full=full, style="" if model else "dim"))


def _of(crossing: str, guards: Iterable[str]) -> list[str]:
    return [said for said in guards if said.startswith(f"{crossing} ")]


def _add_guards(branch: Tree, guards: Sequence[str], *, full: bool) -> None:
    """Those that did not just allow, each; the others as a number, or all of them when `full`."""
    shown = [said for said in guards if full or said.split(" ")[2:3] != ["allow"]]
    for said, times in Counter(shown).items():
        # A call that was held and made again was judged each time.
        branch.add(_named("guard", f"{said} ({times} times)" if times > 1 else said, full=full))
    if len(shown) < len(guards):
        others = "guards allow" if len(guards) - len(shown) > 1 else "guard allows"
        branch.add(Text(f"{len(guards) - len(shown)} {others}", style="dim"))


def _step_figures(step: Step) -> Iterable[str]:
    if step.usage is not None:
        cached = f" ({step.usage.cache_read_tokens:,} cached)" if step.usage.cache_read_tokens else ""
        yield f"{step.usage.input_tokens:,} + {step.usage.output_tokens:,} tokens{cached}"
    if step.status in {"done", "failed"}:
        yield seconds(step.duration_s)
    if step.kind in _MODEL_KINDS and step.status in {"done", "failed"}:
        yield format_usd(step.cost_nano_usd)
    if step.attempt > 1:
        yield f"attempt {step.attempt}"


def _difference(difference: Difference) -> Text:
    text = Text(f"  first difference at event {difference.seq}, {one_line(difference.field)}")
    where = difference.step_id or difference.run_id
    text.append(f" of {where}\n" if where else "\n")
    text.append("  recorded  ", style="green").append(f"{one_line(difference.recorded)}\n")
    return text.append("  replayed  ", style="red").append(one_line(difference.replayed))


def _decision(approval: Approval) -> Text:
    words = _DECISIONS.get(approval.status, approval.status)
    return Text(words, style=_STYLES.get(approval.status, ""))


def _belongs(step: Step, approval: Approval) -> bool:
    return step.id.removeprefix("stp_") == approval.id.removeprefix("apr_")


def _status(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))


def _id(id: str, *, whole: bool) -> Text:
    return Text(id if whole else id[:_SHORT])


def _named(name: str, text: str, *, full: bool) -> Text:
    line = _bold(f"{name}  ").append_text(_shown(text, full=full))
    return line if full else _cut(line)


def _shown(text: str, *, full: bool, style: str = "") -> Text:
    return Text(clean(text), style=style) if full else _cut(Text(one_line(text), style=style))


def _cut(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def _bold(text: str) -> Text:
    """A text that begins bold and goes on as what is appended to it."""
    return Text().append(text, style="bold")


def _table(columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> Group:
    """Rows under their headings. Where the terminal is narrow, lines end in an ellipsis: the last column gives way."""
    lines = [[_bold(column) for column in columns], *(list(row) for row in rows)]
    widths = [max(line[place].cell_len for line in lines) for place in range(len(columns) - 1)]
    for line in lines:
        for cell, width in zip(line, widths, strict=False):
            cell.append(" " * (width - cell.cell_len + 2))
    return Group(*(_cut(Text().join(line)) for line in lines))


def _argument(value: object) -> str:
    return (
        str(value)
        if isinstance(value, _Spelled)
        else one_line(json.dumps(value, ensure_ascii=False, default=str))
    )


class _Spelled(str):
    """A number as it was written: `79.90` stays `79.90`."""

    __slots__ = ()
