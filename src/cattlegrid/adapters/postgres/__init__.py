"""The journal in PostgreSQL: appends of all sessions of a process in one statement, for any number of processes.

Begin with `journal.py`. All of it runs on the event loop, over a pool of connections; every write is one statement that
is a transaction by itself, so that a process that is stopped in mid-write holds no lock. SQLAlchemy and Alembic are
loaded when a schema has to be made or brought up to date.
"""
