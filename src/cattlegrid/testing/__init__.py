"""For users' tests and for our own: the scripted model, fake tools, a manual clock, in-memory ports, and one contract
suite for each port.

A port's contract suite runs against the in-memory implementation here and against every adapter. The scripted model
is a deterministic instrument, not a model. Shipped in the wheel, imported by no other room but `app`.

May import the rooms below; knows nothing of its siblings `server` and `adapters`.
"""
