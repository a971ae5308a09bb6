"""Decide: a guard looks at one crossing and answers `allow`, `modify`, `hold` or `deny`.

A guard is pure: crossing, content and context go in, a verdict comes out, and nothing is called. A guard that crashes
has denied. The chain combines the verdicts of a crossing and is the only place where `Cleared` values are made, so
that nothing leaves through `calls` which the guards have not seen.

May import `journal` and `core`; knows nothing of its siblings `calls` and `telemetry`. Begin with the chain.
"""
