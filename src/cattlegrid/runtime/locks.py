"""One lock for each thing that only one task of this process may do at a time, kept for as long as anybody wants it."""

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """Locks by name."""

    def __init__(self) -> None:
        self._wanted: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """The lock of this name, the same one for all who hold it or wait for it."""
        lock = self._wanted.get(name)
        if lock is None:
            lock = self._wanted[name] = asyncio.Lock()
        return lock
