"""Following a run: what is told as it happens, and where following ends."""

import asyncio
import os
import signal
from collections.abc import Iterable

import httpx2
import msgspec
import pytest
import typer

from cattlegrid.app.client import Client
from cattlegrid.app.talk import Following
from cattlegrid.app.views import Run
from tests.unit.app.examples import FINISHED, RUN, SESSION, WAITING

pytestmark = pytest.mark.anyio

CANCELLED = msgspec.structs.replace(FINISHED, status="cancelled")


class Ear:
    """Hears everything."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def text(self, piece: str) -> None:
        self.heard.append(piece)

    def void(self) -> None:
        self.heard.append("(void)")

    def activity(self, what: str) -> None:
        self.heard.append(f"· {what}")


class Stage:
    """A server that plays streams and shows a run, one after the other."""

    def __init__(self, *, streams: Iterable[list[tuple[str, dict[str, str]]]], runs: Iterable[Run]) -> None:
        self._streams = iter(streams)
        self._runs = iter(runs)
        self.asked: list[str] = []
        self.cancelled = asyncio.Event()
        self.http = httpx2.AsyncClient(
            base_url="http://127.0.0.1", transport=httpx2.MockTransport(self.answer)
        )

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path.endswith("/cancel"):
            self.cancelled.set()
            return httpx2.Response(200, content=msgspec.json.encode(CANCELLED))
        if request.headers["accept"] == "text/event-stream":
            told = next(self._streams)
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, stream=_Told(told, self.cancelled)
            )
        return httpx2.Response(200, content=msgspec.json.encode(next(self._runs)))


class _Told(httpx2.AsyncByteStream):
    """A stream of events; `wait` holds it until the run is cancelled, at `interrupt` somebody presses Ctrl-C."""

    def __init__(self, told: list[tuple[str, dict[str, str]]], cancelled: asyncio.Event) -> None:
        self._told = told
        self._cancelled = cancelled

    async def __aiter__(self):  # noqa: ANN204
        for kind, data in self._told:
            if kind == "wait":
                await asyncio.wait_for(self._cancelled.wait(), 5)
            elif kind == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            elif kind == "pause":
                # The loop handles a signal in one of its next turns.
                for _ in range(10):
                    await asyncio.sleep(0)
            elif kind == "forever":
                await asyncio.wait_for(asyncio.Event().wait(), 5)
            else:
                yield f"event: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


STARTED = ("run.started", {"run_id": RUN})
FINISH = ("run.finished", {"run_id": RUN, "status": "completed"})
INTERRUPT = ("interrupt", dict[str, str]())
PAUSE = ("pause", dict[str, str]())
FOREVER = ("forever", dict[str, str]())


async def test_an_answer_is_told_piece_by_piece_with_what_happens_in_between() -> None:
    ear = Ear()
    stage = Stage(
        streams=[
            [
                STARTED,
                ("step.started", {"step_id": "s1", "kind": "chat"}),
                ("message.delta", {"text": "Let me"}),
                ("message.reset", {"step_id": "s1"}),
                ("message.delta", {"text": "I look."}),
                ("step.finished", {"step_id": "s1", "status": "done"}),
                ("step.started", {"step_id": "s2", "kind": "execute_tool", "tool": "find_order"}),
                ("step.finished", {"step_id": "s2", "status": "failed", "code": "tool_timeout"}),
                FINISH,
                FOREVER,
            ]
        ],
        runs=[FINISHED],
    )
    run = await Following(Client(stage.http), ear).begin("/runs", {"agent": "shop", "input": "hi"})
    assert run == FINISHED
    assert ear.heard == ["Let me", "(void)", "I look.", "· find_order", "· tool_timeout"]
    assert stage.asked == ["POST /runs", f"GET /runs/{RUN}"]


async def test_following_ends_when_a_call_is_held_and_nothing_else_is_being_done() -> None:
    held = ("run.held", {"run_id": RUN, "approval_id": "apr_1", "tool": "refund"})
    stage = Stage(
        streams=[
            [
                STARTED,
                ("step.started", {"step_id": "s2", "tool": "find_order"}),
                held,
                ("step.finished", {"step_id": "s2", "status": "done"}),
                FOREVER,
            ]
        ],
        runs=[WAITING],
    )
    run = await Following(Client(stage.http), Ear()).begin(f"/sessions/{SESSION}/runs", {"input": "hi"})
    assert run.status == "held"


async def test_a_run_that_goes_on_after_a_stream_broke_off_is_followed_again() -> None:
    running = msgspec.structs.replace(FINISHED, status="running")
    ear = Ear()
    stage = Stage(
        streams=[
            [STARTED, ("message.delta", {"text": "Hel"})],
            [STARTED, ("message.delta", {"text": "Hello"}), FINISH],
        ],
        runs=[running, FINISHED],
    )
    run = await Following(Client(stage.http), ear).begin("/runs", {"agent": "shop", "input": "hi"})
    assert run == FINISHED
    assert f"GET /runs/{RUN}/events" in stage.asked


async def test_an_interrupt_asks_for_the_end_of_the_run_and_waits_for_it() -> None:
    stage = Stage(streams=[[STARTED, INTERRUPT, ("wait", {}), FINISH]], runs=[CANCELLED])
    following = Following(Client(stage.http), Ear())
    run = await following.begin("/runs", {"agent": "shop", "input": "hi"})
    assert run.status == "cancelled"
    assert following.cancelled
    assert f"POST /runs/{RUN}/cancel" in stage.asked


async def test_an_interrupt_before_there_is_a_run_cancels_it_as_soon_as_there_is_one() -> None:
    stage = Stage(streams=[[INTERRUPT, PAUSE, STARTED, ("wait", {}), FINISH]], runs=[CANCELLED])
    following = Following(Client(stage.http), Ear())
    assert (await following.begin("/runs", {"agent": "shop", "input": "hi"})).status == "cancelled"
    assert stage.asked.count(f"POST /runs/{RUN}/cancel") == 1


async def test_a_second_interrupt_leaves_at_once() -> None:
    stage = Stage(streams=[[STARTED, INTERRUPT, PAUSE, INTERRUPT, FOREVER]], runs=[])
    with pytest.raises(typer.Abort):
        await Following(Client(stage.http), Ear()).begin("/runs", {"agent": "shop", "input": "hi"})
