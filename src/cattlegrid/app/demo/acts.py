"""The acts. Each returns its line of the table; every figure in it comes from `evidence` or from the server's answers."""

import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec

from cattlegrid.app.demo.evidence import lost
from cattlegrid.app.demo.stage import ANSWER_S, BrokenPromise, Stage

CUSTOMER: Final = "ana@example.com"
ORDER: Final = 17
REQUEST: Final = "Order 17 came broken, I want my 79.90 back"
Say = Callable[[str], None]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the final table."""

    act: int
    name: str
    scene: str
    result: str
    kept: bool
    figures: dict[str, object]
    took_s: float = 0.0


class Story(msgspec.Struct):
    """What one act leaves for the next."""

    session_id: str = ""
    run_id: str = ""


def act_2(stage: Stage, story: Story, say: Say) -> Line:
    """SIGKILL twice: while a refund waits for a person, and between the refund and its record."""
    stage.start()
    say(f'{CUSTOMER}: "{REQUEST}"')
    run = stage.call("POST", "/runs", {"agent": "support", "input": REQUEST}, user=CUSTOMER)
    if run["status"] != "held" or not run["approvals"]:
        raise BrokenPromise(f"the refund was not held: the run is {run['status']}")
    story.session_id, story.run_id = run["session_id"], run["id"]
    approval = stage.call("GET", f"/approvals/{run['approvals'][0]['id']}", staff=True)
    given = ", ".join(f"{name}={value!r}" for name, value in approval["arguments"].items())
    say(f"held for a person: {approval['tool']}({given}), since {approval['condition']}")
    before = stage.evidence.events(story.session_id)
    stage.kill()
    say(f"SIGKILL while it waits; {len(before)} events are in the journal")
    stage.start(crash_at="after_effect")
    say("restarted; a colleague approves, and the server is killed between the refund and its record")
    with contextlib.suppress(ConnectionError):
        stage.call("POST", f"/approvals/{approval['id']}/decision", {"decision": "approve"}, staff=True)
    stage.wait_for_death()
    in_doubt = stage.evidence.events(story.session_id)
    made, _ = stage.evidence.refunds(ORDER)
    say(f"SIGKILL; the shop has {made} refund, the journal has no outcome: last event {in_doubt[-1].type}")
    began_s = time.perf_counter()
    stage.start()
    final = _until_finished(stage, story.run_id)
    resumed_s = time.perf_counter() - began_s
    say(f'restarted; the agent answers: "{final["output"]}"')
    after = stage.evidence.events(story.session_id)
    refunds, cents = stage.evidence.refunds(ORDER)
    gone = lost(before, after) + lost(in_doubt, after)
    figures: dict[str, object] = {
        "kills": stage.kills,
        "refunds": refunds,
        "refunded_cents": cents,
        "events": len(after),
        "lost_events": gone,
        "resumed_s": round(resumed_s, 2),
        "status": final["status"],
    }
    kept = refunds == 1 and cents == 7_990 and gone == 0 and final["status"] == "completed"
    result = f"resumed in {resumed_s:.1f} s, refunds made: {refunds}, lost events: {gone}"
    return Line(
        act=2, name="kill -9", scene="in the middle of a refund", result=result, kept=kept, figures=figures
    )


def _until_finished(stage: Stage, run_id: str) -> dict[str, object]:
    deadline_s = time.perf_counter() + ANSWER_S
    while time.perf_counter() < deadline_s:
        run = stage.call("GET", f"/runs/{run_id}", staff=True)
        if run["status"] not in {"running", "held"}:
            return run
        time.sleep(0.05)
    raise BrokenPromise("the run did not finish after the restart")


def act_6(stage: Stage, story: Story, say: Say) -> Line:
    """Why did it do that? The recorded run as a tree, then the same session again, compared step by step."""
    report = stage.call("POST", "/debug/replay", {"session_id": story.session_id}, staff=True)
    same, total = report["steps"], report["steps_total"]
    identical = bool(report["identical"]) and same == total > 0
    word = "identical" if identical else "different"
    figures: dict[str, object] = {"identical": identical, "steps": same, "steps_total": total}
    say(f"replay: {word}, {same} of {total} steps")
    return Line(
        act=6,
        name="why?",
        scene="replay of the customer's session",
        result=f"{word}, {same} of {total} steps",
        kept=identical,
        figures=figures,
    )
