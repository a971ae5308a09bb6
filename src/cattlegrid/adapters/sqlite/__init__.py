"""The journal in one SQLite file: a writer thread that shares transactions, a reader thread, schema and migrations.

Begin with `journal.py`. What is imported to serve is the standard library's sqlite3 only; SQLAlchemy and Alembic are
loaded when an older database has to be brought up to date.
"""
