"""Turns a run into a response as OpenAI's clients read it (https://www.openresponses.org). Pure.

A queued run is `queued`; a running one, one that waits for a person (with items `mcp_approval_request`) and one that an
operator has to retry are `in_progress`; one that met a limit or was denied by a guard is `incomplete`, the latter with its
answer as a refusal; that of an erased user is `cancelled`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from cattlegrid.core.messages import Usage
from cattlegrid.runtime.requests import ApprovalView, RunView
from cattlegrid.server import door_names, doors, speech, views

STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "queued": "queued",
        "running": "in_progress",
        "held": "in_progress",
        "dead": "in_progress",
        "completed": "completed",
        "partial": "incomplete",
        "denied": "incomplete",
        "failed": "failed",
        "cancelled": "cancelled",
        "erased": "cancelled",
    }
)


def response(
    view: RunView,
    *,
    staff: bool,
    ignored: Sequence[str] = (),
    previous: str | None = None,
    message_id: str = "",
) -> views.Json:
    """A run as a response.

    Args:
        view: the run.
        staff: whether the arguments of held calls are shown.
        ignored: fields of the request that had no effect.
        previous: the id of the response that the request named.
        message_id: the id under which the answer was streamed, if it was.
    """
    over = view.status in views.FINAL
    return {
        "id": door_names.response_id(view.id),
        "object": "response",
        "created_at": int(view.started_at.timestamp()),
        "completed_at": int(view.finished_at.timestamp()) if view.finished_at else None,
        "status": STATUS[view.status],
        "error": _error(view),
        "incomplete_details": _incomplete(view),
        "model": view.agent,
        "output": [*(approval_item(one, staff=staff) for one in view.approvals), *_answer(view, message_id)],
        "usage": usage(view.usage) if over else None,
        "conversation": {"id": door_names.conversation_id(view.session_id)},
        "previous_response_id": previous,
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "reasoning": None,
        "service_tier": "default",
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "cattlegrid": doors.extension(view, ignored),
    }


def usage(of: Usage) -> views.Json:
    """Tokens of a run: cached ones are among the input, reasoning among the output."""
    return {
        "input_tokens": of.input_tokens,
        "input_tokens_details": {
            "cached_tokens": of.cache_read_tokens,
            "cache_write_tokens": of.cache_write_tokens,
        },
        "output_tokens": of.output_tokens,
        "output_tokens_details": {"reasoning_tokens": of.reasoning_tokens},
        "total_tokens": of.input_tokens + of.output_tokens,
    }


def approval_item(view: ApprovalView, *, staff: bool) -> views.Json:
    """A held call, decided or not. Its arguments are JSON `null` for those who do not decide."""
    return {
        "type": "mcp_approval_request",
        "id": view.id,
        "server_label": view.agent,
        "name": view.tool,
        "arguments": view.arguments if staff else "null",
        "cattlegrid": {"status": view.status, "reason": view.reason, "expires_at": view.expires_at},
    }


def message_item(id: str, parts: Sequence[views.Json], status: str) -> views.Json:
    """A message of the agent."""
    return {"type": "message", "id": id, "role": "assistant", "status": status, "content": list(parts)}


def text_part(text: str) -> views.Json:
    """The words of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> views.Json:
    """The words of a refusal."""
    return {"type": "refusal", "refusal": text}


def _answer(view: RunView, message_id: str) -> Sequence[views.Json]:
    if view.status not in views.FINAL or not view.output:
        return ()
    part = refusal_part(view.output) if view.status == "denied" else text_part(view.output)
    status = "completed" if view.status in {"completed", "denied"} else "incomplete"
    return (message_item(message_id or speech.message_id(view.id), [part], status),)


def _error(view: RunView) -> views.Json | None:
    match view.status:
        case "failed":
            said = view.output or "The run failed."
            return {"code": "server_error", "message": said, "type": view.reason or "failed", "param": None}
        case "erased":
            gone = "The user was erased."
            return {"code": "server_error", "message": gone, "type": "erased", "param": None}
        case _:
            return None


def _incomplete(view: RunView) -> views.Json | None:
    match view.status:
        case "partial":
            return {"reason": view.reason or "limit"}
        case "denied":
            return {"reason": "content_filter"}
        case _:
            return None
