"""Measure: datasets, cases, trials, scorers and the statistics that turn scores into a statement.

Drives `runtime` through its public API only, so a trial is an ordinary run and is journalled like one. Nothing is
built in this room yet; it imports `runtime` and what lies below it.
"""
