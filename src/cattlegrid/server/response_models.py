"""The bodies of responses as pydantic models: what the OpenAPI document says of them. `response_objects` makes them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cattlegrid.server.models import ApprovalStatus, RunStatus


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Extension(_Out):
    """What is ours."""

    run_id: str
    session_id: str
    agent: str
    bundle: str = Field(description="The version that answered.", examples=["support#17 (3f9c2ab1)"])
    status: RunStatus
    reason: str
    cost_nano_usd: int = Field(description="In billionths of a US dollar.", examples=[3_100_000])
    cost_usd: str = Field(description="The same, in US dollars.", examples=["0.0031"])
    ignored: list[str] = Field(
        description="Fields of this request that had no effect.", examples=[["temperature"]]
    )


class InputDetails(_Out):
    """Tokens among the input."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(_Out):
    """Tokens among the output."""

    reasoning_tokens: int


class Usage(_Out):
    """Tokens of all model calls of the run."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class TextPart(_Out):
    """Words."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[str], Field(max_length=0)]
    logprobs: Annotated[list[str], Field(max_length=0)]


class RefusalPart(_Out):
    """Words of a refusal."""

    type: Literal["refusal"]
    refusal: str


class MessageItem(_Out):
    """The agent's answer."""

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]]


class ApprovalExtension(_Out):
    """What became of a held call."""

    status: ApprovalStatus
    reason: Literal["approval", "in_doubt"]
    expires_at: datetime | None


class ApprovalItem(_Out):
    """A call that waits, or waited, for a person."""

    type: Literal["mcp_approval_request"]
    id: str
    server_label: str = Field(description="The agent.")
    name: str = Field(description="The tool.")
    arguments: str = Field(description="JSON text; `null` for those who do not decide.")
    cattlegrid: ApprovalExtension


class Conversation(_Out):
    """The session, as a conversation."""

    id: str


class Failure(_Out):
    """Why a run failed."""

    code: Literal["server_error"]
    message: str
    type: str
    param: None


class Incomplete(_Out):
    """Why an answer is cut short: a limit (`time`, `turns`, `context` and others), or a guard (`content_filter`)."""

    reason: str


class Plain(_Out):
    """Plain text."""

    type: Literal["text"]


class TextForm(_Out):
    """The form of answers."""

    format: Plain


class Response(_Out):
    """A run, as a response."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: Failure | None
    incomplete_details: Incomplete | None
    model: str = Field(description="The agent.")
    output: list[Annotated[MessageItem | ApprovalItem, Field(discriminator="type")]]
    usage: Usage | None = Field(description="Once the run has ended.")
    conversation: Conversation
    previous_response_id: str | None = Field(description="As the request named it; null when read later.")
    background: bool
    instructions: None
    max_output_tokens: None
    max_tool_calls: None
    metadata: Annotated[dict[str, str], Field(max_length=0)]
    parallel_tool_calls: bool
    reasoning: None
    service_tier: Literal["default"]
    store: Literal[True]
    temperature: None
    text: TextForm
    tool_choice: Literal["auto"]
    tools: Annotated[list[str], Field(max_length=0)]
    top_p: None
    truncation: Literal["disabled"]
    cattlegrid: Extension


class ModelExtension(_Out):
    """What is ours of a model."""

    bundle: str = Field(description="The version that new conversations get.")


class Model(_Out):
    """An agent, as a model."""

    id: str
    object: Literal["model"]
    created: Literal[0] = Field(description="Not known.")
    owned_by: Literal["cattlegrid"]
    cattlegrid: ModelExtension


class Models(_Out):
    """The agents, as models."""

    object: Literal["list"]
    data: list[Model]
