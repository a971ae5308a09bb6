"""Work spread over the processes of one PostgreSQL database, with procrastinate as the engine.

Begin with `jobs.py`. Tables and functions live in the namespace `cattlegrid_jobs`: procrastinate's own, whose statements
`connector.py` sends there over the store's kind of connections, and two of ours, for rounds and for tasks that have ended.
"""
