"""What may reach users: bundles, their registry and numbering, environments, and which bundle a session gets.

A bundle is the frozen, hashed whole of what defines one version of an agent. This room reads an agent's folder,
reports what is wrong with it by file, line and key, numbers it, and keeps its files so that pinned sessions find
their code. Files are read with `pathlib`; one small module asks git for the commit.

May import `evals`, `runtime` and what lies below. Begin with the models of the files, then the loader.
"""
