"""Scenarios: real processes, real signals, effects counted outside of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.server import Server
from tests.scenario.till import Counter, write_project


@pytest.fixture
def counter() -> Iterator[Counter]:
    """The outside, where effects arrive."""
    with Counter() as counter:
        yield counter


@pytest.fixture
def server(tmp_path: Path, counter: Counter) -> Iterator[Server]:
    """A server of the project whose effects are counted; not started yet."""
    server = Server(write_project(tmp_path), TILL_COUNTER=counter.address)
    yield server
    server.end()
