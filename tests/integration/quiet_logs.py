"""Puts the logs of the test process back as they were: a command line sends all of them to standard error."""

import contextlib
import logging
from collections.abc import Generator

import structlog


@contextlib.contextmanager
def logs_put_back() -> Generator[None]:
    """Undo what is configured inside the block."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configuration = structlog.get_config()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**configuration)
