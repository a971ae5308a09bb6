"""The truth: streams of events, the bodies they refer to, and everything that is derived from them by folding.

What happened at a crossing is one event, and recovery, replay, traces, cost and audit are projections of it. Here are
the closed union of events with its upcasters, the writer that gives each event its place and hash, keyed digests and
encrypted bodies, and the `Store` port. Databases stand behind that port in `adapters`.

May import `core`; I/O libraries are forbidden. Begin with the events, then the writer, then the port.
"""
