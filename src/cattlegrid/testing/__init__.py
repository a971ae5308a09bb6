"""For users' tests and for our own: scripted model, fake tools, manual clock, in-memory ports, contract suites.

A port's contract suite runs against the in-memory implementation here and against every adapter. The scripted model
is a deterministic instrument, not a model. Shipped in the wheel, imported by no other room but `app`.

May import the rooms below; knows nothing of its siblings `server` and `adapters`.
"""
