"""Cattlegrid: run LLM agents that you can trust.

What an agent's author needs is exported here; everything else is imported from its room.
"""

from cattlegrid.core.tools import Context, NotExecuted, tool

__all__ = ["Context", "NotExecuted", "tool"]
