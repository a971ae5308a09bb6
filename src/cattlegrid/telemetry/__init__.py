"""What can be told from the journal: spans, metrics, logs, rollups, and alerts that name an action.

A projection reads the feed of the journal and can be restarted at any place of it; nobody calls telemetry at the
spot. The attribute names of the GenAI semantic conventions occur in this room and nowhere else.

May import `journal` and `core`; knows nothing of its siblings `guards` and `calls`.
"""
