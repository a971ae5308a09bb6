"""The outside: SQLite, model providers, tool functions, clocks and keys; each implements a port of an inner room.

Ports point inward, so nothing here is imported by the rooms that declare them: only `app` does, when it puts the
parts together. An adapter holds no decision that a second adapter would have to repeat. Imports of optional extras
stand inside functions here and nowhere else.

May import the rooms below; knows nothing of its siblings `server` and `testing`.
"""
