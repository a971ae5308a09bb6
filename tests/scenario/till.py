"""A project whose tools have effects that are counted outside of it: what the scenarios of crashes are played with.

`Counter` is the outside: a line-based server in the test's own process that remembers every arrival by its key, and
answers whether a key has arrived. `write_project` makes an agent whose tools report there.
"""

import contextlib
import os
import socketserver
import threading
from collections import Counter as Tally
from pathlib import Path
from typing import Self

PROJECT = """\
environment: development
agents: agents
models:
  small:
    provider: openai
    model: gpt-4.1-mini
    price: {input: 0.40, cached_input: 0.10, output: 1.60}
"""

AGENT = """\
name: till
description: Pays what it is told to pay
loop: native
models:
  default: small
approve:
  pay_big: always
limits:
  run_s: 120
  queue: 200
degrade: I could not finish this.
"""

TOOLS = '''\
"""Tools whose effects are counted by somebody else."""
# ruff: noqa

import os
import socket

from cattlegrid import Context, tool


def _tell(word: str, key: str, wait_s: float = 5.0) -> str:
    host, port = os.environ["TILL_COUNTER"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=wait_s) as wire:
        wire.sendall(f"{word} {key}\\n".encode())
        return wire.makefile().readline().strip()


@tool(effect="write", retry="once", timeout_s=1.0, reconcile="was_paid")
def pay_once(amount: int, ctx: Context) -> str:
    """Pay, in a way that must never happen twice.

    Args:
        amount: how much.
    """
    return _tell("once", ctx.idempotency_key)


@tool(timeout_s=1.0)
def was_paid(amount: int, ctx: Context) -> str | None:
    """Whether a payment has arrived.

    Args:
        amount: how much.
    """
    return "ok" if _tell("arrived?", ctx.idempotency_key) == "yes" else None


@tool(effect="write", retry="keyed", timeout_s=1.0)
def pay_keyed(amount: int, ctx: Context) -> str:
    """Pay, with a key that the other side honours.

    Args:
        amount: how much.
    """
    return _tell("keyed", ctx.idempotency_key)


@tool(effect="write", retry="once", timeout_s=1.0)
def pay_big(amount: int, ctx: Context) -> str:
    """Pay a large sum; a person must agree, and nobody else can tell whether it happened.

    Args:
        amount: how much.
    """
    return _tell("big", ctx.idempotency_key)


@tool(timeout_s=50.0)
def look(what: str, ctx: Context) -> str:
    """Look at something outside, which takes for as long as the outside wants.

    Args:
        what: at what.
    """
    return f"{_tell('look', ctx.idempotency_key, wait_s=50.0)} {what}"
'''


_PATIENCE_S = 45


class Counter:
    """Counts the arrivals of effects, on a free loopback port, for as long as a `with` block.

    While `doors` is clear, whoever comes to look waits: a run is then surely under way.
    """

    def __init__(self) -> None:
        self.once: Tally[str] = Tally()
        self.keyed: Tally[str] = Tally()
        self.big: Tally[str] = Tally()
        self.looks: Tally[str] = Tally()
        self.doors = threading.Event()
        self.doors.set()
        self._lock = threading.Lock()
        outside = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode()
                if not line.endswith("\n"):
                    return  # whoever wanted to say something was killed before
                word, _, key = line.strip().partition(" ")
                answer = outside.arrive(word, key)
                with contextlib.suppress(OSError):
                    self.wfile.write(f"{answer}\n".encode())

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def arrive(self, word: str, key: str) -> str:
        """Note an arrival, or answer whether there was one."""
        with self._lock:
            if word == "arrived?":
                return "yes" if self.once[key] else "no"
            tallies = {"once": self.once, "keyed": self.keyed, "big": self.big, "look": self.looks}
            tallies[word][key] += 1
        if word == "look":
            self.doors.wait(timeout=_PATIENCE_S)
            return "saw"
        return "ok"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.doors.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def write_project(root: Path) -> Path:
    """The project in a folder."""
    agent = root / "agents" / "till"
    (agent / "prompts").mkdir(parents=True)
    (root / "cattlegrid.yaml").write_text(PROJECT)
    (agent / "agent.yaml").write_text(AGENT)
    (agent / "prompts" / "system.md").write_text("You pay what you are told to pay.\n")
    (agent / "tools.py").write_text(TOOLS)
    return root


def clean_environ(**more: str) -> dict[str, str]:
    """The environment of a server under test, without what the tester's own shell says about Cattlegrid or models.

    Python may keep what it has compiled: the scenarios start dozens of processes.
    """
    left_out = ("CATTLEGRID_", "DATABASE_URL", "OPENAI_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, **more}
