"""Every command on a project that `init` made, without a server: the same app in the command's own process."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cattlegrid.app.cli import run
from tests.integration.quiet_logs import logs_put_back

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what must be refused
MESSAGE = "Order 17 came broken, I want my 79.90 back"
pytestmark = pytest.mark.usefixtures("project")


class Shell:
    """Runs command lines in the project."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.complaints = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What a command prints; what it complains of is kept in `complaints`."""
        ended = run(arguments)
        printed = self._capture.readouterr()
        self.complaints = printed.err
        assert ended == code, printed
        assert "Traceback" not in printed.err
        return printed.out

    def json(self, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - a document
        """The one document that a command prints."""
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith(("CATTLEGRID_", "DATABASE_URL", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with logs_put_back():
        run(["init", "shop"])
        monkeypatch.chdir(tmp_path / "shop")
        yield tmp_path / "shop"


@pytest.fixture
def shell(project: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    capsys.readouterr()
    return Shell(capsys)


def hold(shell: Shell) -> str:
    """Ask for a refund that waits for a person; the id of the approval."""
    said = shell("chat", "shop", MESSAGE)
    return said.partition("[waiting: ")[2].rstrip("]\n")


@pytest.mark.requirement("cli:init")
@pytest.mark.requirement("cli:inspect")
def test_a_refund_from_the_question_to_its_replay(shell: Shell) -> None:
    assert shell("lint").endswith("ok\n")
    approval = hold(shell)
    assert approval.startswith("apr_")
    assert approval in shell("approvals", "list")
    shown = shell("approvals", "show", "last")
    assert "call    refund(" in shown
    assert "why     amount > 50" in shown
    assert "user    you@example.com" in shown
    tree = shell("runs", "show", "last")
    assert "held for a person: amount > 50 · waits for a person" in tree
    done = shell("approvals", "approve", approval[:22], "--note", "Photo seen").splitlines()
    assert done[0].startswith("refund(")
    assert "amount=79.9" in done[0]
    assert " done once · 3 model calls · " in done[0]
    assert " · $0.00" in done[0]
    assert done[1] == "I have refunded 79.90 euros for order 17."
    tree = shell("runs", "show", "last")
    assert "held for a person: amount > 50 · approved" in tree
    assert '"refund":1' in tree
    assert "output  I have refunded 79.90 euros" in tree
    assert shell("approvals", "list") == ""
    assert "No call waits for a person." in shell.complaints
    assert approval in shell("approvals", "list", "--all")
    replayed = shell("replay", "last")
    assert replayed.startswith("replay: identical, ")
    same, _, total = replayed.split()[2:5]
    assert same == total


def test_a_session_goes_on_and_reads_as_a_conversation(shell: Shell) -> None:
    assert "refund what you paid" in shell("chat", "shop", "What is your return policy?")
    assert "shipped" in shell("chat", "shop", "Where is my order 12?", "--session", "last")
    sessions = shell.json("sessions", "list")["items"]
    assert len(sessions) == 1
    shown = shell("sessions", "show", sessions[0]["id"][:14])
    assert shown.index("What is your return policy?") < shown.index("Where is my order 12?")
    assert "is closed: completed" in shell("sessions", "close", "last")
    shell("chat", "shop", "One more thing", "--session", "last", code=1)
    assert "has ended" in shell.complaints


def test_a_conversation_is_read_line_by_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    lines.write_text("What is your return policy?\n\nWhere is my order 12?\n")
    with lines.open() as said:
        monkeypatch.setattr("sys.stdin", said)
        answers = shell("chat", "shop").splitlines()
    assert len(answers) == 2
    assert "shipped" in answers[1]
    assert len(shell.json("sessions", "list")["items"]) == 1


def test_a_streamed_answer_is_printed_once(shell: Shell) -> None:
    streamed = shell("chat", "shop", "What is your return policy?", "--stream")
    whole = shell("chat", "shop", "What is your return policy?", "--no-stream")
    assert streamed == whole
    assert streamed.count("Return policy") == 1


def test_a_customer_sees_only_what_is_theirs(shell: Shell) -> None:
    assert "no order 17" in shell("chat", "shop", "Where is my order 17?", "--user", "bo@example.com")
    assert "delivered" in shell("chat", "shop", "Where is my order 17?")


def test_a_call_is_approved_with_other_arguments(shell: Shell) -> None:
    hold(shell)
    wish = json.dumps({"order": 17, "amount": 40.0, "reason": "half"})
    assert "amount=40" in shell("approvals", "approve", "last", "--arguments", wish)
    run_ = shell.json("runs", "show", "last")
    assert run_["approvals"][0]["status"] == "modify"
    assert '"amount_eur":40' in "".join(step["answer"] for step in run_["steps"])


def test_a_rejected_call_is_never_made(shell: Shell) -> None:
    approval = hold(shell)
    assert "not made: rejected" in shell("approvals", "reject", "last", "--note", "No photo")
    run_ = shell.json("runs", "show", "last")
    assert run_["approvals"][0]["status"] == "reject"
    assert "refund" not in {step["name"] for step in run_["steps"] if step["status"] == "done"}
    shell("approvals", "approve", approval, code=1)
    assert "is decided" in shell.complaints
    shell("approvals", "approve", "last", code=1)
    assert "No call waits" in shell.complaints


def test_only_a_call_in_doubt_is_confirmed_as_done(shell: Shell) -> None:
    hold(shell)
    shell("approvals", "done", "last", code=1)
    assert "in doubt" in shell.complaints


def test_a_held_run_is_cancelled(shell: Shell) -> None:
    hold(shell)
    assert "is cancelled" in shell("runs", "cancel", "last")
    assert shell.json("runs", "show", "last")["status"] == "cancelled"


@pytest.mark.requirement("cli:json")
def test_whatever_prints_data_prints_it_as_one_json_document(shell: Shell) -> None:
    chat = shell.json("chat", "shop", MESSAGE)
    assert chat["status"] == "held"
    approval = shell.json("approvals", "show", "last")
    assert approval["arguments"] == {"order": 17, "amount": 79.9, "reason": approval["arguments"]["reason"]}
    assert [one["id"] for one in shell.json("approvals", "list")["items"]] == [approval["id"]]
    assert shell.json("approvals", "approve", "last")["status"] == "completed"
    assert [one["id"] for one in shell.json("runs", "list", "--status", "completed")["items"]] == [chat["id"]]
    assert shell.json("runs", "list", "--status", "held")["items"] == []
    assert len(shell.json("runs", "show", "last")["steps"]) == 5
    assert shell.json("sessions", "list")["items"][0]["id"] == chat["session_id"]
    assert shell.json("sessions", "show", "last")["agent"] == "shop"
    replayed = shell.json("replay", "last")
    assert (replayed["identical"], replayed["steps"]) == (True, replayed["steps_total"])
    verified = shell.json("verify")
    assert (verified["ok"], verified["problems"]) == (True, [])
    assert verified["events"] > 10
    made = shell.json("keys", "create", "--user", "kim@example.com")
    assert made["key"].startswith("cg_")
    assert made["id"] in {key["id"] for key in shell.json("keys", "list")["items"]}
    assert shell.json("keys", "revoke", made["id"])["revoked_at"]
    assert shell.json("users", "erase", "you@example.com", "--yes") == {"sessions": 1, "keys": 0}
    assert shell.json("lint")["ok"]
    assert shell.json("bundle", "list")


def test_the_key_goes_to_standard_output_alone_and_is_worth_nothing_once_revoked(shell: Shell) -> None:
    key = shell(
        "keys", "create", "--user", "ops@example.com", "--role", "operator", "--role", "approver"
    ).strip()
    assert key.startswith("cg_")
    assert key not in shell.complaints
    assert "ops@example.com, operator, approver" in shell.complaints
    shell("--key", key, "runs", "list")
    assert key not in shell("keys", "list")
    id_ = shell.json("keys", "list")["items"]
    mine = next(one["id"] for one in id_ if one["user"] == "ops@example.com")
    assert "is revoked" in shell("keys", "revoke", mine)
    shell("--key", key, "runs", "list", code=1)
    assert "not valid" in shell.complaints


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "kim", "--role", "king"], "A key needs roles out of"),
        ([], "either for one user, or acts for users"),
        (["--act-as", "--role", "approver"], "role `user` only"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(shell: Shell, arguments: list[str], said: str) -> None:
    shell("keys", "create", *arguments, code=1)
    assert said in shell.complaints


def test_an_erased_user_leaves_a_journal_that_verifies(shell: Shell) -> None:
    hold(shell)
    assert "Erased you@example.com: 1 session" in shell("users", "erase", "you@example.com", "-y")
    assert "broken" not in shell("runs", "show", "last")
    assert "(erased)" in shell("sessions", "show", "last")
    assert shell("verify").startswith("verify: whole, ")


def test_a_changed_journal_is_found(shell: Shell, project: Path) -> None:

    shell("chat", "shop", "What is your return policy?")
    with sqlite3.connect(project / ".cattlegrid" / "journal.db") as vandal:
        vandal.execute("UPDATE events SET at_us = at_us + 1 WHERE seq = 2")
    vandal.close()
    told = shell("verify", code=1)
    assert "NOT as it was written" in told
    assert "it was rewritten" in told
    assert shell.json("verify", code=1)["ok"] is False


def test_a_broken_agent_is_said_with_its_place_before_anything_runs(shell: Shell, project: Path) -> None:
    agent = project / "agents/shop/agent.yaml"
    agent.write_text(agent.read_text().replace("run_s: 60", "run_seconds: 60"))
    for line in (["chat", "shop", "hello"], ["dev", "--port", "0"], ["serve", "--port", "0"]):
        shell(*line, code=1)
        assert "agents/shop/agent.yaml:" in shell.complaints
        assert "run_seconds" in shell.complaints
    assert shell("runs", "list") == "", "what happened before can be read whatever the files say"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["runs", "show", "last"], "There is no run yet"),
        (["runs", "show", "run_0000000"], "There is no run `run_0000000`"),
        (["sessions", "show", "ses_00000000000000000000000000"], "There is no session"),
        (["chat", "nobody", "hello"], "no agent `nobody`"),
        (["chat", "shop", "hello", "--session", "ses_0000000"], "There is no session `ses_0000000`"),
        (["runs", "list", "--status", "odd"], "status"),
        (["verify", "--seals", "nowhere.jsonl"], "no seal log nowhere.jsonl"),
        (["--key", "cg_nonsense", "runs", "list"], "--key or CATTLEGRID_KEY"),
        (["keys", "revoke", "key_00000000000000000000000000"], "There is no key"),
    ],
)
@pytest.mark.requirement("cli:errors")
def test_what_does_not_exist_is_said_in_one_sentence(shell: Shell, line: list[str], said: str) -> None:
    assert shell(*line, code=1) == ""
    assert said in shell.complaints
    assert len(shell.complaints.splitlines()) == 1


def test_nothing_is_served_that_must_not_be(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("serve", "--no-auth", "--host", EVERYWHERE, code=1)
    assert "--no-auth is for development at a loopback address" in shell.complaints
    shell("serve", "--env", "production", code=1)
    assert "No model is set up" in shell.complaints
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shell("serve", "--no-auth", "--env", "staging", code=1)
    assert "--no-auth is for development" in shell.complaints
    shell("dev", "--stop")
    assert "No server of this project runs." in shell.complaints
    monkeypatch.setenv("CATTLEGRID_ENV", "staging")
    shell("dev", code=1)
    assert "`cattlegrid serve`" in shell.complaints
    shell("runs", "list", code=1)
    assert "No API key is known here" in shell.complaints


@pytest.mark.requirement("server:bind")
def test_beyond_this_machine_nothing_is_served_before_there_is_a_key(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shell("serve", "--env", "staging", "--host", EVERYWHERE, "--port", "0", code=1)
    assert "Refusing to listen on 0.0.0.0: there is no API key" in shell.complaints


def test_a_bundle_that_differs_from_its_commit_is_not_served_in_production(
    shell: Shell, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    for line in ("git init -q", "git add -A", "git -c user.name=a -c user.email=a@b.c commit -q -m x"):
        subprocess.run(line.split(), cwd=project, check=True)
    prompt = project / "agents/shop/prompts/system.md"
    prompt.write_text(prompt.read_text() + "\nBe kind.\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shell("serve", "--env", "production", "--port", "0", code=1)
    assert "commit" in shell.complaints
