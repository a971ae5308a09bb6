"""What people read: trees, tables and lines, from answers of a server."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from cattlegrid.app.render import (
    approval_text,
    approvals_list,
    call_text,
    decided_line,
    difference_text,
    figures,
    keys_table,
    run_tree,
    runs_table,
    session_text,
    sessions_table,
    waiting_line,
)
from cattlegrid.app.views import ApiKey, Difference, Replay, Session
from tests.unit.app.examples import APPROVAL, AT, FINISHED, HELD, REFUND, RUN, SESSION, WAITING


def shown(part: RenderableType, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(part)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]
    return str(text)  # pyright: ignore[reportUnknownArgumentType]


@pytest.mark.requirement("cli:inspect")
def test_the_tree_of_a_run_tells_everything_in_its_order() -> None:
    assert shown(run_tree(FINISHED)) == (
        "run_01KAF2M8WZ0000000000000000  completed\n"
        "├── shop#1 (3f9c2ab1), ses_01KAF2M8WY0000000000000000\n"
        "├── input  Order 17 came broken, I want my 79.90 back\n"
        "├── chat small · 1,428 + 13 tokens (1,024 cached) · 0.8 s · $0.0015\n"
        '│   └── refund({"order": 17, "amount": 79.90})\n'
        "├── refund(order=17, amount=79.90) · 28 ms\n"
        "│   ├── held for a person: amount > 50 · approved\n"
        '│   └── {"refund": 1, "order": 17, "amount_eur": 79.9}\n'
        "├── output  I have refunded 79.90 euros for order 17.\n"
        "└── 2 model calls · 1 tool call · 1,428 + 24 tokens · 1.9 s · $0.0031\n"
    )


def test_the_tree_of_a_held_run_says_who_must_decide() -> None:
    text = shown(run_tree(WAITING))
    assert "refund(order=17, amount=79.90) · held" in text
    assert "held for a person: amount > 50 · waits for a person" in text
    assert "why  approval" not in text


def test_failed_and_refused_steps_say_why_and_how_often_they_were_tried() -> None:
    failed = msgspec.structs.replace(
        REFUND, status="failed", why="tool_timeout", attempt=3, answer="It took too long."
    )
    text = shown(run_tree(msgspec.structs.replace(FINISHED, steps=(failed,), approvals=())))
    assert "refund(order=17, amount=79.90) · 28 ms · attempt 3 · failed" in text
    assert "why  tool_timeout" in text
    assert "It took too long." in text


def test_long_texts_end_with_the_line_unless_all_is_asked_for() -> None:
    wordy = msgspec.structs.replace(FINISHED, steps=(msgspec.structs.replace(REFUND, answer="word " * 200),))
    brief = shown(run_tree(wordy))
    assert "…" in brief
    assert max(map(len, brief.splitlines())) <= 80
    assert shown(run_tree(wordy, full=True)).count("word") == 200


def test_nobody_paints_an_operators_screen_through_a_run() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07"
    run = msgspec.structs.replace(
        FINISHED,
        input=evil,
        output=evil,
        reason=evil,
        steps=(msgspec.structs.replace(REFUND, given=evil, answer=evil, why=evil, name=evil),),
        approvals=(
            msgspec.structs.replace(HELD, tool=evil, arguments={evil: evil}, condition=evil, user=evil),
        ),
    )
    parts = [
        run_tree(run),
        run_tree(run, full=True),
        runs_table([run], now=AT, whole_ids=True),
        approvals_list(run.approvals, now=AT),
        approval_text(run.approvals[0], now=AT),
        decided_line(run, run.approvals[0]),
    ]
    assert [part for part in parts if set(shown(part)) & set("\x1b\x07")] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"order": 17, "amount": 79.90}', "refund(order=17, amount=79.90)"),
        ({"order": 17, "amount": 79.9}, "refund(order=17, amount=79.9)"),
        ('{"why": "it \\"broke\\"", "ok": true, "x": null}', 'refund(why="it \\"broke\\"", ok=true, x=null)'),
        ("not json", "refund(not json)"),
        ("[1, 2]", "refund([1, 2])"),
        (None, "refund()"),
        ("{}", "refund()"),
    ],
)
def test_a_call_is_written_as_a_call(arguments: object, said: str) -> None:
    assert call_text("refund", arguments) == said


@pytest.mark.parametrize(
    ("status", "attempt", "said"),
    [
        ("done", 1, "done once"),
        ("done", 2, "done, after 2 attempts"),
        ("failed", 1, "failed (approved)"),
        ("refused", 0, "refused (approved)"),
    ],
)
def test_a_decision_is_answered_with_what_came_of_it(status: str, attempt: int, said: str) -> None:
    step = msgspec.structs.replace(REFUND, status=status, attempt=attempt)
    run = msgspec.structs.replace(FINISHED, steps=(step,))
    line = decided_line(run, run.approvals[0]).plain
    assert line == f"refund(order=17, amount=79.90) {said} · 2 model calls · 1.9 s · $0.0031"


def test_a_rejected_call_was_not_made() -> None:
    rejected = msgspec.structs.replace(HELD, status="reject")
    assert "not made: rejected" in decided_line(FINISHED, rejected).plain


def test_a_call_in_doubt_offers_all_that_can_be_said_of_it() -> None:
    doubt = msgspec.structs.replace(HELD, status="in_doubt", reason="in_doubt", condition="")
    text = approval_text(doubt, now=AT).plain
    assert "nobody knows whether it took effect" in text
    for word, meaning in (("done", "did happen"), ("reject", "did not happen"), ("approve", "again")):
        assert any(f"approvals {word} {APPROVAL}" in line and meaning in line for line in text.splitlines())
    for status, said in (
        ("done", "took effect, a person says"),
        ("reject", "did not take effect, a person says"),
    ):
        decided = msgspec.structs.replace(doubt, status=status)
        assert said in decided_line(FINISHED, decided).plain


def test_what_waits_can_be_copied_from_the_line() -> None:
    assert waiting_line(WAITING).plain == f"[waiting: {APPROVAL}]"
    assert waiting_line(FINISHED).plain == ""


def test_one_run_in_figures() -> None:
    assert figures(FINISHED) == "2 model calls · 1.9 s · $0.0031"


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_costs_the_last_column_only(width: int) -> None:
    lines = shown(runs_table([FINISHED], now=AT, whole_ids=False), width=width).splitlines()
    assert lines[0].split()[:5] == ["RUN", "STATUS", "AGENT", "WHEN", "COST"]
    assert lines[1].startswith("run_01KAF2M8WZ00  completed  shop#1  just now  $0.0031")
    assert max(map(len, lines)) <= width


def test_where_nobody_looks_ids_are_whole() -> None:
    assert RUN in shown(runs_table([FINISHED], now=AT, whole_ids=True), width=160)
    session = Session(
        id=SESSION, agent="shop", bundle="shop#1 (3f9c2ab1)", status="open", created_at=AT, updated_at=AT
    )
    assert SESSION in shown(sessions_table([session], now=AT, whole_ids=True))
    assert f"{SESSION[:16]}  open" in shown(sessions_table([session], now=AT, whole_ids=False))


def test_a_session_reads_as_a_conversation() -> None:
    session = Session(
        id=SESSION, agent="shop", bundle="shop#1 (3f9c2ab1)", status="open", created_at=AT, updated_at=AT
    )
    text = session_text(session, [FINISHED, WAITING]).plain
    assert text.index("user   Order 17") < text.index("agent  I have refunded")
    assert f"[waiting: {APPROVAL}]" in text


def test_a_replay_is_one_line_or_the_first_difference() -> None:
    same = Replay(session_id=SESSION, bundle="shop#1", identical=True, steps=7, steps_total=7)
    assert difference_text(same).plain == "replay: identical, 7 of 7 steps"
    difference = Difference(
        seq=9, run_id=RUN, step_id=REFUND.id, field="request_ref", recorded="a", replayed="b"
    )
    other = msgspec.structs.replace(same, identical=False, steps=2, difference=difference)
    text = difference_text(other).plain
    assert text.startswith("replay: different, 2 of 7 steps identical\n")
    assert f"event 9, request_ref of {REFUND.id}" in text


def test_keys_are_listed_without_hiding_what_they_may_do() -> None:
    key = ApiKey(
        id="key_01KAF2M8WZ0000000000000000",
        tenant="default",
        user="",
        act_as=False,
        roles=("operator", "approver"),
        label="web",
        created_at=AT,
        revoked_at=AT,
    )
    text = shown(keys_table([key, msgspec.structs.replace(key, act_as=True, revoked_at=None)]), width=120)
    assert "revoked" in text
    assert "(erased)" in text
    assert "any user" in text
    assert "operator, approver · web" in text
