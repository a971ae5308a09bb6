"""What is accepted in the bodies of requests, as pydantic models.

Strict: unknown fields are refused and nothing is coerced. Where a rule spans fields, the JSON Schema in the OpenAPI
document says it too.
"""

from base64 import b64decode
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.core.permissions import Role
from cattlegrid.runtime.attachments import Attachment

Name = Annotated[str, Field(min_length=1, max_length=64)]
FileName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
UserName = Annotated[
    str,
    Field(
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\s]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s])?$",
        description="A user's name, as it came from whoever authenticates users.",
        examples=["kim@example.com"],
    ),
]
Features = Annotated[
    list[Name],
    Field(
        max_length=16,
        description="Tags of the run, out of those that the agent declares; others are left out.",
        examples=[["refunds"]],
    ),
]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewSession(_In):
    """A session with an agent, without a run yet."""

    agent: Name = Field(description="The agent's name.", examples=["support"])


class NewAttachment(_In):
    """A file that comes with a request."""

    name: FileName = Field(description="Its name.", examples=["orders.csv"])
    media_type: Literal[
        "text/plain",
        "text/markdown",
        "text/csv",
        "application/json",
        "application/pdf",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
    ]
    data: str = Field(
        min_length=1, description="Its bytes, as base64 (RFC 4648, section 4).", examples=["YSxiCjEsMgo="]
    )

    @property
    def attachment(self) -> Attachment:
        """The file. Raises InvalidRequest."""
        return Attachment(name=self.name, media_type=self.media_type, data=decoded(self.data))


def decoded(text: str) -> bytes:
    """The bytes that base64 stands for. Raises InvalidRequest."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise InvalidRequest("The bytes of a file are base64.", param="attachments") from None


def attached(address: str, *, name: str, param: str) -> Attachment:
    """The file that a `data:` address holds (RFC 2397). No other address is fetched. Raises InvalidRequest."""
    head, comma, data = address.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    if not comma or head != f"data:{media_type};base64":
        raise InvalidRequest("Files come as `data:` addresses with base64; nothing is fetched.", param=param)
    return Attachment(name=name, media_type=media_type.lower(), data=decoded(data))


class _Input(_In):
    input: str = Field(
        min_length=1,
        description="What the user says. Control characters are dropped; the agent's limit of bytes applies.",
        examples=["Order 17 came broken, I want my 79.90 back"],
    )
    attachments: Annotated[
        list[NewAttachment],
        Field(
            max_length=16,
            description="Files: their text and pictures are material for the agent, within its limits.",
        ),
    ] = []
    features: Features = []
    on_busy: Literal["queue", "reject", "interrupt"] = Field(
        default="queue",
        description="When another run of the session is open: wait for it, be refused with 409, or end it.",
    )


class NextRun(_Input):
    """A request in a session that exists."""


class NewRun(_Input):
    """A request that opens a session of its own."""

    agent: Name = Field(description="The agent's name.", examples=["support"])


class NewFeedback(_In):
    """What a user thought of a run; at least one of the three."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["thumb"], "properties": {"thumb": {"type": "string"}}},
                {"required": ["score"], "properties": {"score": {"type": "number"}}},
                {"required": ["text"], "properties": {"text": {"minLength": 1}}},
            ]
        }
    )

    thumb: Literal["up", "down"] | None = Field(default=None, description="The short form.")
    score: float | None = Field(
        default=None, ge=0, le=1, strict=False, description="From 0, bad, to 1, good."
    )
    text: str = Field(default="", max_length=4_000, description="In words.", examples=["Quick and friendly."])

    @model_validator(mode="after")
    def _says_something(self) -> "NewFeedback":
        if self.thumb is None and self.score is None and not self.text:
            raise ValueError("give a thumb, a score or a text")
        return self


class NewDecision(_In):
    """A decision on a held call."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["arguments"],
                    "properties": {"decision": {"const": "modify"}, "arguments": {"type": "object"}},
                },
                {
                    "properties": {
                        "decision": {"enum": ["approve", "reject", "done"]},
                        "arguments": {"type": "null"},
                    }
                },
            ]
        }
    )

    decision: Literal["approve", "reject", "modify", "done"] = Field(
        description="`modify` approves with other arguments; `done` says that a call in doubt did happen."
    )
    note: str = Field(default="", max_length=2_000, description="For the record.", examples=["photo seen"])
    arguments: dict[str, JsonValue] | None = Field(
        default=None, description="With `modify`: all arguments of the call.", examples=[{"amount": 40.0}]
    )

    @model_validator(mode="after")
    def _arguments_fit(self) -> "NewDecision":
        if (self.arguments is not None) != (self.decision == "modify"):
            raise ValueError("arguments belong to `modify`, and to nothing else")
        return self


class ReplayRequest(_In):
    """Which session to replay."""

    session_id: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="The session's id.", examples=["ses_01KF3Q1V9Q4Z8M2N6T7R5W3XYC"]
    )


class EraseRequest(_In):
    """Whom to erase."""

    user: UserName


class NewApiKey(_In):
    """A key to be made: for one user, or one that acts for users."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["user"],
                    "properties": {"user": {"type": "string"}, "act_as": {"const": False}},
                },
                {
                    "required": ["act_as"],
                    "properties": {
                        "act_as": {"const": True},
                        "user": {"type": "null"},
                        "roles": {"items": {"const": "user"}},
                    },
                },
            ]
        }
    )

    user: UserName | None = Field(default=None, description="Whose key it is.")
    act_as: bool = Field(
        default=False, description="The key names its user with every request, in `X-Cattlegrid-User`."
    )
    roles: list[Role] = Field(
        default=["user"], min_length=1, max_length=7, description="What the key may be used for."
    )
    label: str = Field(
        default="", max_length=60, description="What the key is for; no person's name.", examples=["web shop"]
    )
