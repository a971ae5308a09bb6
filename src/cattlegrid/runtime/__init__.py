"""The engine: sessions, runs and steps, the native loop, holds and approvals, undo, recovery and replay.

The loop is a pure function from the folded events of a session to the next action; the engine performs that action
through `guards` and `calls` and appends what came of it. So recovery is to fold and go on, and replay is the same
loop with transports that raise.

May import `guards`, `calls`, `telemetry`, `journal` and `core`; I/O libraries are forbidden. Begin with the loop.
"""
