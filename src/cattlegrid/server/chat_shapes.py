"""What chat completions take and give, as pydantic models, and a run as a completion. The translation is pure.

stop            the run has completed
length          it was cut short: a limit, a failure, a cancel, or it waits for somebody, and `content` says so
content_filter  a guard has denied it, and `refusal` says so
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from cattlegrid.core.messages import Usage
from cattlegrid.runtime.requests import RunView
from cattlegrid.server import door_names, doors, views
from cattlegrid.server.client_words import Said
from cattlegrid.server.doors import Hint, sample
from cattlegrid.server.inputs import Name
from cattlegrid.server.response_inputs import Content, no_tools, plain_text, said_in
from cattlegrid.server.response_models import Extension

HINTS: Final = (
    *("frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "metadata", "modalities"),
    *("parallel_tool_calls", "presence_penalty", "prompt_cache_key", "prompt_cache_retention"),
    *("reasoning_effort", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature"),
    *("tool_choice", "top_p", "user", "verbosity"),
)
RESTS: Final = frozenset({"held", "dead"})
"""The statuses of runs that go on when somebody has seen to them."""
FinishReason = Literal["stop", "length", "content_filter"]


class _Item(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class ClientMessage(_Item):
    """A message. Whatever its role, it is the user's word."""

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: Content | None = None
    tool_calls: list[JsonValue] | None = None

    @property
    def said(self) -> Said:
        return said_in(self.role, self.content or "")


class StreamOptions(_Item):
    """What a stream has besides words."""

    include_usage: bool | None = Field(default=None, description="A last piece with the usage.")


class NewCompletion(BaseModel):
    """A chat, whose last messages are the request."""

    model_config = ConfigDict(
        **sample({"model": "support", "messages": [{"role": "user", "content": "Where is order 17?"}]})
    )

    model: Name = Field(description="The agent's name.", examples=["support"])
    messages: Annotated[list[ClientMessage], Field(min_length=1)] = Field(
        description="The last ones are the user's. Those before are material from the user's side; in a conversation "
        "that goes on, everything up to the assistant's last message is left out, since it is on record."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    tools: list[JsonValue] | None = Field(default=None, json_schema_extra={"maxItems": 0})
    functions: list[JsonValue] | None = Field(default=None, json_schema_extra={"maxItems": 0})
    logprobs: Literal[False] | None = None
    response_format: dict[str, JsonValue] | None = Field(
        default=None, json_schema_extra={"required": ["type"], "properties": {"type": {"const": "text"}}}
    )

    frequency_penalty: Hint = None
    logit_bias: Hint = None
    max_completion_tokens: Hint = None
    max_tokens: Hint = None
    metadata: Hint = None
    modalities: Hint = None
    parallel_tool_calls: Hint = None
    presence_penalty: Hint = None
    prompt_cache_key: Hint = None
    prompt_cache_retention: Hint = None
    reasoning_effort: Hint = None
    safety_identifier: Hint = None
    seed: Hint = None
    service_tier: Hint = None
    stop: Hint = None
    store: Hint = None
    temperature: Hint = None
    tool_choice: Hint = None
    top_p: Hint = None
    user: Hint = None
    verbosity: Hint = None

    @field_validator("tools", "functions")
    @classmethod
    def _has_no_tools(cls, value: list[JsonValue] | None) -> list[JsonValue] | None:
        return no_tools(value)

    @field_validator("response_format")
    @classmethod
    def _is_plain(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        plain_text(value)
        return value

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputDetails(_Out):
    """Tokens among the input."""

    cached_tokens: int
    audio_tokens: Literal[0]


class OutputDetails(_Out):
    """Tokens among the output."""

    reasoning_tokens: int
    audio_tokens: Literal[0]
    accepted_prediction_tokens: Literal[0]
    rejected_prediction_tokens: Literal[0]


class CompletionUsage(_Out):
    """Tokens of all model calls of the run."""

    prompt_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens: int
    completion_tokens_details: OutputDetails
    total_tokens: int


class Message(_Out):
    """The agent's answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class Choice(_Out):
    """The one answer."""

    index: Literal[0]
    message: Message
    finish_reason: FinishReason
    logprobs: None


class Completion(_Out):
    """A run, as a chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="The agent.")
    choices: Annotated[list[Choice], Field(min_length=1, max_length=1)]
    usage: CompletionUsage
    cattlegrid: Extension


def completion(view: RunView, ignored: list[str]) -> views.Json:
    """A run that has ended, or waits for a person, as a completion."""
    content, refusal = answer_of(view)
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(view), "logprobs": None}
    return {
        "id": door_names.completion_id(view.id),
        "object": "chat.completion",
        "created": int(view.started_at.timestamp()),
        "model": view.agent,
        "choices": [choice],
        "usage": usage(view.usage),
        "cattlegrid": doors.extension(view, ignored),
    }


def answer_of(view: RunView) -> tuple[str | None, str | None]:
    """Content and refusal."""
    if view.status == "denied":
        return None, view.output
    return (notice(view) if view.status in RESTS else view.output), None


def notice(view: RunView) -> str:
    """What a chat is told of a run that waits: this format has nothing else for it."""
    if view.status == "dead":
        return f"This was interrupted too often, and waits for an operator. The answer will be at /runs/{view.id}."
    calls = ", ".join(f"`{one.tool}` ({one.id})" for one in doors.waiting(view))
    return f"This waits for a person to decide on {calls or 'a call'}. The answer will be at /runs/{view.id}."


def finish_reason(view: RunView) -> FinishReason:
    """See the module."""
    if view.status == "denied":
        return "content_filter"
    return "stop" if view.status == "completed" else "length"


def usage(of: Usage) -> views.Json:
    """Tokens of a run."""
    details = {"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "prompt_tokens": of.input_tokens,
        "prompt_tokens_details": {"cached_tokens": of.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens": of.output_tokens,
        "completion_tokens_details": {"reasoning_tokens": of.reasoning_tokens, **details},
        "total_tokens": of.input_tokens + of.output_tokens,
    }
