"""The ports of the engine towards rooms above it: where bundles come from.

Implementation: `release.registry`. `Switches` and `Memory` join it when flags and long-term memory do.
"""

from typing import Protocol

from cattlegrid.core.bundle import Bundle, BundleVersion


class Bundles(Protocol):
    """Finds bundles. Bundles never change, so implementations keep them."""

    async def bundle(self, digest: str) -> Bundle:
        """The bundle with this digest. Raises NotFound."""
        ...

    async def resolve(self, agent: str) -> BundleVersion:
        """The version that a new session of the agent is pinned to. Raises NotFound for an unknown agent."""
        ...
