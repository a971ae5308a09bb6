"""Follows one run from its beginning until it has ended or waits for a person, and tells a listener what happens."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Final, Protocol

import typer

from cattlegrid.app.client import Client, StreamEvent
from cattlegrid.app.views import Run

_INTERRUPT: Final = signal.SIGINT
_PAUSE_S: Final = 0.1


class Listener(Protocol):
    """Hears what happens in a run, as it happens."""

    def text(self, piece: str) -> None:
        """A piece of the answer; provisional."""
        ...

    def void(self) -> None:
        """The pieces so far do not count: the answer begins anew."""
        ...

    def activity(self, what: str) -> None:
        """Something else, in a few words."""
        ...


class Following:
    """One run that is being followed."""

    def __init__(self, client: Client, listener: Listener) -> None:
        self._client = client
        self._listener = listener
        self._run_id = ""
        self._open: set[str] = set()
        self._held = False
        self._asking: asyncio.Task[bytes] | None = None
        self.cancelled = False
        """Whether the person at the terminal has ended it."""

    async def begin(self, path: str, body: Mapping[str, object]) -> Run:
        """Send a request and follow its run.

        Args:
            path: `/runs`, or `/sessions/{id}/runs`.
            body: the request.

        Returns:
            The run as it is in the end; `held` when it waits for a person.
        """
        with self._interruptible():
            await self._until_it_rests(self._client.events(path, dict(body)))
            return await self._settled()

    async def go_on(self, run_id: str) -> Run:
        """Follow a run that exists."""
        self._run_id = run_id
        with self._interruptible():
            return await self._settled()

    async def _settled(self) -> Run:
        run = await self._client.run(self._run_id)
        while not run.over and run.status not in {"held", "dead"}:
            await self._until_it_rests(self._client.events(f"/runs/{self._run_id}/events"))
            run = await self._client.run(self._run_id)
            if not run.over:
                await asyncio.sleep(_PAUSE_S)
        return run

    async def _until_it_rests(self, events: AsyncGenerator[StreamEvent]) -> None:
        """Tell what happens until the run has ended, or a call is held and no other one is being made."""
        async with contextlib.aclosing(events) as stream:
            async for event in stream:
                self._tell(event)
                if event.type == "run.finished" or (self._held and not self._open):
                    return

    def _tell(self, event: StreamEvent) -> None:
        data = {name: str(value) for name, value in event.data.items()}
        step = data.get("step_id", "")
        self._run_id = data.get("run_id", self._run_id)
        if self.cancelled:
            self._ask_for_the_end()
        match event.type:
            case "message.delta":
                self._listener.text(data.get("text", ""))
            case "message.reset" | "run.restarted":
                self._listener.void()
            case "step.started":
                self._open.add(step)
                if "tool" in data:
                    self._listener.activity(data["tool"])
            case "step.finished":
                self._open.discard(step)
                if data.get("status") != "done":
                    self._listener.activity(" ".join((data.get("tool", ""), data.get("code", ""))).strip())
            case "run.held":
                self._held = True
            case "approval.decided":
                self._held = False
                self._listener.activity(f"decided: {data.get('decision', '')}")
            case _:
                pass

    def _ask_for_the_end(self) -> None:
        """Cancel the run, once, as soon as it is known which one it is."""
        if self._run_id and self._asking is None:
            path = f"/runs/{self._run_id}/cancel"
            self._asking = asyncio.get_running_loop().create_task(self._client.post(path))

    @contextlib.contextmanager
    def _interruptible(self) -> Generator[None]:
        """Ctrl-C asks the server to end the run, and waits for that; a second one leaves, by `typer.Abort`."""
        loop = asyncio.get_running_loop()
        caller = asyncio.current_task()
        left = asyncio.Event()

        def interrupted() -> None:
            if self.cancelled and caller is not None:
                left.set()
                caller.cancel()
            self.cancelled = True
            self._ask_for_the_end()

        loop.add_signal_handler(_INTERRUPT, interrupted)
        try:
            yield
        except asyncio.CancelledError:
            if caller is None or not left.is_set():
                raise
            caller.uncancel()
            raise typer.Abort from None
        finally:
            loop.remove_signal_handler(_INTERRUPT)
            if self._asking is not None:
                self._asking.cancel()
