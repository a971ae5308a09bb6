"""What is accepted in the bodies of responses, as pydantic models (https://www.openresponses.org, version 2026-04-24).

Fields that ask for what the agent alone decides are taken and named in the answer as ignored. What would make a client
believe in something that is not so (tools of its own, answers by a schema, nothing stored) is refused by name.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from cattlegrid.runtime.attachments import Attachment
from cattlegrid.server.client_words import Said
from cattlegrid.server.door_names import THREAD
from cattlegrid.server.doors import Hint, kind_of, sample
from cattlegrid.server.inputs import FileName, Name, attached

HINTS: Final = (
    *(
        "include",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
    ),
    *("prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "stream_options"),
    *("temperature", "tool_choice", "top_logprobs", "top_p", "truncation", "user"),
)
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_Conversation = Annotated[
    str,
    Field(
        pattern=THREAD,
        description="The id of a conversation or session; any other name is your own for it.",
        examples=["web-4711"],
    ),
]


class _Item(BaseModel):
    """Clients send back what they were given, with fields of ours: those are not looked at."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Text(_Item):
    """Words."""

    type: Literal["input_text", "output_text", "text"]
    text: str

    @property
    def words(self) -> str:
        return self.text


class Refused(_Item):
    """A refusal that the client has kept."""

    type: Literal["refusal"]
    refusal: str

    @property
    def words(self) -> str:
        return self.refusal


class Picture(_Item):
    """A picture of the request, as responses have it."""

    type: Literal["input_image"]
    image_url: str = Field(description="A `data:` address.")

    @property
    def file(self) -> Attachment:
        return attached(self.image_url, name="image", param="input")


class Document(_Item):
    """A file of the request, as responses have it."""

    type: Literal["input_file"]
    file_data: str = Field(description="A `data:` address.")
    filename: FileName = "file"

    @property
    def file(self) -> Attachment:
        return attached(self.file_data, name=self.filename, param="input")


class _Address(_Item):
    url: str


class _FileData(_Item):
    file_data: str
    filename: FileName = "file"


class ChatPicture(_Item):
    """A picture of the request, as chats have it."""

    type: Literal["image_url"]
    image_url: _Address

    @property
    def file(self) -> Attachment:
        return attached(self.image_url.url, name="image", param="messages")


class ChatDocument(_Item):
    """A file of the request, as chats have it."""

    type: Literal["file"]
    data: _FileData = Field(alias="file")

    @property
    def file(self) -> Attachment:
        return attached(self.data.file_data, name=self.data.filename, param="messages")


_Words = Text | Refused
_Files = Picture | Document | ChatPicture | ChatDocument
Parts = list[Annotated[_Words | _Files, Field(discriminator="type")]]
Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[Parts, Tag("list")],
    Discriminator(kind_of),
]


class ClientMessage(_Item):
    """A message. Whatever its role, it is the user's word."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content

    @property
    def said(self) -> Said:
        return said_in(self.role, self.content)


class ClientCall(_Item):
    """A tool call that the client says was made."""

    type: Literal["function_call"]
    name: str
    arguments: str

    @property
    def said(self) -> Said:
        return Said("function_call", f"{self.name}({self.arguments})")


class ClientResult(_Item):
    """What the client says a tool has answered."""

    type: Literal["function_call_output"]
    output: Content

    @property
    def said(self) -> Said:
        return Said("function_call_output", words_of(self.output))


class ClientApproval(_Item):
    """A held call that the client was told of, and sends back."""

    type: Literal["mcp_approval_request"]
    id: str
    name: str

    @property
    def said(self) -> Said:
        return Said("mcp_approval_request", f"{self.id} {self.name}")


class Decision(_Item):
    """A decision on a held call, by somebody who may decide."""

    type: Literal["mcp_approval_response"]
    approval_request_id: _Id
    approve: bool
    reason: str | None = Field(default=None, max_length=2_000)


def _kind(item: Any) -> str:  # noqa: ANN401 - whatever the client has sent
    if isinstance(item, BaseModel):
        return str(getattr(item, "type", ""))
    return str(item.get("type", "message")) if isinstance(item, dict) else "message"  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


Item = Annotated[
    Annotated[ClientMessage, Tag("message")]
    | Annotated[ClientCall, Tag("function_call")]
    | Annotated[ClientResult, Tag("function_call_output")]
    | Annotated[ClientApproval, Tag("mcp_approval_request")]
    | Annotated[Decision, Tag("mcp_approval_response")],
    Discriminator(_kind),
]


class ConversationRef(BaseModel):
    """A conversation."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: _Conversation


class NewResponse(BaseModel):
    """A request to an agent, as to a model."""

    model_config = ConfigDict(**sample({"model": "support", "input": "Where is order 17?"}))

    model: Name = Field(description="The agent's name.", examples=["support"])
    input: Annotated[
        Annotated[str, Field(min_length=1), Tag("text")]
        | Annotated[list[Item], Field(min_length=1), Tag("list")],
        Discriminator(kind_of),
    ] = Field(
        description="What the user says; or items, of which the last ones are the user's messages; or decisions alone."
    )
    instructions: str | None = Field(
        default=None, description="Material from the user's side, put in front of the request as such."
    )
    previous_response_id: _Id | None = Field(
        default=None, description="Goes on in the conversation of that response, which must be its last."
    )
    conversation: _Conversation | ConversationRef | None = Field(
        default=None, description="Goes on in that conversation."
    )
    stream: bool | None = Field(default=None, description="Server-sent events.")
    background: bool | None = Field(default=None, description="Answer as soon as the request is durable.")
    store: bool | None = Field(default=None, json_schema_extra={"enum": [True, None]})
    tools: list[JsonValue] | None = Field(default=None, json_schema_extra={"maxItems": 0})
    text: dict[str, JsonValue] | None = Field(
        default=None,
        json_schema_extra={"properties": {"format": {"properties": {"type": {"const": "text"}}}}},
    )

    include: Hint = None
    max_output_tokens: Hint = None
    max_tool_calls: Hint = None
    metadata: Hint = None
    parallel_tool_calls: Hint = None
    prompt_cache_key: Hint = None
    prompt_cache_retention: Hint = None
    reasoning: Hint = None
    safety_identifier: Hint = None
    service_tier: Hint = None
    stream_options: Hint = None
    temperature: Hint = None
    tool_choice: Hint = None
    top_logprobs: Hint = None
    top_p: Hint = None
    truncation: Hint = None
    user: Hint = None

    @field_validator("store")
    @classmethod
    def _is_stored(cls, value: bool | None) -> bool | None:  # noqa: FBT001 - the shape of a validator
        if value is False:
            raise ValueError("every run is recorded; leave this out, and erase the user when it is time")
        return value

    @field_validator("tools")
    @classmethod
    def _has_no_tools(cls, value: list[JsonValue] | None) -> list[JsonValue] | None:
        return no_tools(value)

    @field_validator("text")
    @classmethod
    def _is_plain(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        plain_text((value or {}).get("format"))
        return value

    @model_validator(mode="after")
    def _has_one_place(self) -> "NewResponse":
        if self.previous_response_id is not None and self.conversation is not None:
            raise ValueError("give previous_response_id or conversation, not both")
        return self

    @property
    def place(self) -> str:
        """The conversation that is named, if any."""
        named = self.conversation
        return named.id if isinstance(named, ConversationRef) else named or ""

    @property
    def decisions(self) -> list[Decision]:
        """The decisions on held calls among the items."""
        items = self.input if isinstance(self.input, list) else []
        return [item for item in items if isinstance(item, Decision)]

    @property
    def said(self) -> list[Said]:
        """The messages among the items, the instructions first."""
        said = [Said("instructions", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*said, Said("user", self.input)]
        return [*said, *(item.said for item in self.input if not isinstance(item, Decision))]


def words_of(content: str | Parts) -> str:
    """The words of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(part.words for part in content if isinstance(part, _Words))


def said_in(role: str, content: str | Parts) -> Said:
    """A message with its files. Raises InvalidRequest for one that is no file."""
    parts = [] if isinstance(content, str) else content
    return Said(role, words_of(content), tuple(part.file for part in parts if isinstance(part, _Files)))


def no_tools(value: list[JsonValue] | None) -> list[JsonValue] | None:
    """Raises ValueError when a client brings tools."""
    if value:
        raise ValueError("the agent has its own tools, and takes none from clients; leave this out")
    return value


def plain_text(form: JsonValue) -> None:
    """Raises ValueError when a client wants answers in a form that nobody promises."""
    if form is not None and not (isinstance(form, dict) and form.get("type") == "text"):
        raise ValueError("answers are plain text; another format cannot be promised")
