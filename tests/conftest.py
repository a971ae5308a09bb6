"""What every test shares: asyncio as the one event loop, how long Hypothesis may look, and a PostgreSQL server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.pooler import PROGRAM, pooler
from tests.postgres import Cluster, running

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The only event loop that Cattlegrid supports."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real server, started when the first test wants it."""
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pooled(postgres: Cluster) -> Iterator[Path]:
    """The folder of a pooler's socket, in front of that server."""
    if PROGRAM is None:
        pytest.skip("PGBOUNCER IS NOT THERE: what runs behind it is not tested")
    with pooler(postgres.folder) as folder:
        yield folder


@pytest.fixture
def database(postgres: Cluster) -> Iterator[str]:
    """The URL of a database of the test's own, with the tables of a journal."""
    name = postgres.journal()
    yield postgres.url(name)
    postgres.drop(name)
