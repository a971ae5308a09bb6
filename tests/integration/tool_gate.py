"""What hanging tools of a bundle and the test that calls them share."""

import threading
from typing import Final


class Gate:
    """What the hanging tools wait for."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.cancelled = threading.Event()

    def shut(self) -> None:
        """As at the beginning."""
        self.open.clear()
        self.started = threading.Semaphore(0)
        self.cancelled.clear()


gate: Final = Gate()
