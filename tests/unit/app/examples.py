"""Answers of a server as values, for tests of what is shown of them."""

from datetime import UTC, datetime, timedelta

import msgspec

from cattlegrid.app.views import Approval, Run, Step, Tokens

AT = datetime(2026, 3, 6, 12, tzinfo=UTC)
RUN = "run_01KAF2M8WZ0000000000000000"
SESSION = "ses_01KAF2M8WY0000000000000000"
STEP = "stp_01KAF2M8WZ0000000000000000_003"
APPROVAL = "apr_01KAF2M8WZ0000000000000000_003"

HELD = Approval(
    id=APPROVAL,
    session_id=SESSION,
    run_id=RUN,
    agent="shop",
    status="pending",
    reason="approval",
    tool="refund",
    user="you@example.com",
    requested_at=AT,
    expires_at=AT + timedelta(days=1),
    arguments={"order": 17, "amount": 79.9},
    condition="amount > 50",
)
CHAT = Step(
    id="stp_01KAF2M8WZ0000000000000000_001",
    kind="chat",
    name="small",
    status="done",
    attempt=1,
    duration_s=0.84,
    cost_nano_usd=1_500_000,
    usage=Tokens(input_tokens=1_428, output_tokens=13, cache_read_tokens=1_024),
    answer='refund({"order": 17, "amount": 79.90})',
)
REFUND = Step(
    id=STEP,
    kind="execute_tool",
    name="refund",
    status="done",
    attempt=1,
    duration_s=0.028,
    given='{"order": 17, "amount": 79.90}',
    answer='{"refund": 1, "order": 17, "amount_eur": 79.9}',
    why="approved",
)
FINISHED = Run(
    id=RUN,
    session_id=SESSION,
    agent="shop",
    bundle="shop#1 (3f9c2ab1)",
    status="completed",
    reason="",
    input="Order 17 came broken, I want my 79.90 back",
    output="I have refunded 79.90 euros for order 17.",
    active_s=1.9,
    model_calls=2,
    tool_calls=1,
    usage=Tokens(input_tokens=1_428, output_tokens=24),
    cost_nano_usd=3_100_000,
    approvals=(msgspec.structs.replace(HELD, status="approve"),),
    started_at=AT,
    finished_at=AT + timedelta(seconds=60),
    steps=(CHAT, REFUND),
)
WAITING = msgspec.structs.replace(
    FINISHED,
    status="held",
    output="",
    approvals=(HELD,),
    steps=(CHAT, msgspec.structs.replace(REFUND, status="held", answer="", why="approval")),
)
