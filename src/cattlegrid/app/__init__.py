"""The composition root: settings, the wiring of adapters to ports, and the command line.

The only room that imports `adapters`. Anything that decides belongs further in; this room chooses which parts are put
together and starts and stops them. Begin with the wiring, then the commands.
"""
