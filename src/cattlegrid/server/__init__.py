"""The inbound edge, kept thin: HTTP in, a frozen request with a principal out, and results or errors back.

Authenticates, parses, hands over to the runtime, and maps results and the error tree to the wire. Decisions are made
further in. Knows neither its sibling `adapters` nor any store; `app` hands in what it needs.

May import `release` and what lies below. Begin with the errors table, then the routes.
"""
