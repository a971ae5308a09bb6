"""Turns our ids into those that other people's protocols show, and back, and reads a client's name for a conversation.

A response is a run, and a conversation is a session: `resp_X` is `run_X`, `conv_X` is `ses_X`, and both are understood.
Whatever else names a conversation is the client's own name for it.
"""

import re
from typing import Final

import msgspec

from cattlegrid.core.errors import NotFound

_RUN: Final = re.compile(r"(?:resp|run)_([0-9A-HJKMNP-TV-Z]{26})")
_SESSION: Final = re.compile(r"(?:conv|ses)_([0-9A-HJKMNP-TV-Z]{26})")
THREAD: Final = r"^[\x21-\x7e]{1,256}$"
"""A client's own name for a conversation."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request belongs: in a session, in the conversation of a name, or in a new one."""

    session_id: str = ""
    thread: str = ""
    after_run: str = ""


def place_of(conversation: str) -> Place:
    """The place that a client names."""
    found = _SESSION.fullmatch(conversation)
    return Place(session_id=f"ses_{found[1]}") if found else Place(thread=conversation)


def run_of(response_id: str) -> str:
    """The run of a response. Raises NotFound."""
    found = _RUN.fullmatch(response_id)
    if not found:
        raise NotFound("There is no response with this id.")
    return f"run_{found[1]}"


def response_id(run_id: str) -> str:
    """The id of a run, as a response."""
    return f"resp_{run_id.removeprefix('run_')}"


def conversation_id(session_id: str) -> str:
    """The id of a session, as a conversation."""
    return f"conv_{session_id.removeprefix('ses_')}"


def completion_id(run_id: str) -> str:
    """The id of a run, as a chat completion."""
    return f"chatcmpl_{run_id.removeprefix('run_')}"
