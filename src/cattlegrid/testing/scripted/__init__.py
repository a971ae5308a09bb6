"""The scripted model: an HTTP server that plays the model of an agent, deterministically, from rules.

It is a test instrument, not a language model. Request bytes become a `Conversation` (`conversation.py`), a persona
(`personas.py`) turns it into a `Reply` by the rules for the tools that are offered (`rules/`), and the reply becomes
bytes (`wire.py`), perhaps damaged on the way (`faults.py`). `app.py` puts this together, `server.py` serves it.
"""

from cattlegrid.testing.scripted.app import NOTICE, ScriptedModel, create_app
from cattlegrid.testing.scripted.personas import PERSONAS, Persona
from cattlegrid.testing.scripted.server import ScriptedModelServer, run, serve

__all__ = [
    "NOTICE",
    "PERSONAS",
    "Persona",
    "ScriptedModel",
    "ScriptedModelServer",
    "create_app",
    "run",
    "serve",
]
