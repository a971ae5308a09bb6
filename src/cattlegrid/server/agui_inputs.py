"""What is accepted as an AG-UI 1.0 `RunAgentInput`, as pydantic models (https://docs.ag-ui.com/spec/1.0).

The protocol asks to pass over what one does not know, so unknown fields are.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic.alias_generators import to_camel

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.server.client_words import Said, newest, turn_of
from cattlegrid.server.door_names import THREAD
from cattlegrid.server.response_inputs import no_tools


class _In(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, alias_generator=to_camel)


class ClientMessage(_In):
    """A message of the conversation. Whatever its role, it is the user's word."""

    id: str
    role: Literal["user", "assistant", "system", "developer", "tool", "activity", "reasoning"]
    content: JsonValue = None


class Context(_In):
    """What the user interface says of itself."""

    description: str
    value: str


class Answer(_In):
    """What a decision says."""

    approved: bool
    edited_args: dict[str, JsonValue] | None = Field(
        default=None, description="All arguments, in place of the others."
    )


class Resume(_In):
    """An answer to an interrupt, or the wish to see what became of it."""

    interrupt_id: str = Field(min_length=1, max_length=64, description="The id of an approval.")
    status: Literal["resolved", "cancelled"]
    payload: Answer | None = Field(default=None, description="A decision, by somebody who may decide.")


class RunAgentInput(_In):
    """A request to run an agent."""

    thread_id: Annotated[str, Field(pattern=THREAD)] = Field(
        description="The user interface's own name for the conversation; or the id of a session."
    )
    run_id: str = Field(min_length=1, max_length=256, description="The user interface's own id for this run.")
    messages: list[ClientMessage] = Field(
        description="The conversation. What came after the assistant last spoke is the request."
    )
    tools: list[JsonValue] | None = Field(default=None, json_schema_extra={"maxItems": 0})
    context: list[Context] | None = Field(
        default=None, description="Material from the user's side, put in front of the request as such."
    )
    state: JsonValue = Field(default=None, description="Taken, and without effect.")
    forwarded_props: JsonValue = Field(default=None, description="Taken, and without effect.")
    resume: list[Resume] | None = None

    @field_validator("tools")
    @classmethod
    def _has_no_tools(cls, value: list[JsonValue] | None) -> list[JsonValue] | None:
        return no_tools(value)

    @property
    def turn(self) -> str:
        """The text of the user turn. Raises InvalidRequest."""
        context = [Said("context", f"{one.description}: {one.value}") for one in self.context or ()]
        spoken = [one for one in self.messages if one.role not in {"activity", "reasoning"}]
        said = newest([Said(one.role, "") for one in spoken])
        latest = spoken[len(spoken) - len(said) :]
        return turn_of([*context, *(Said(one.role, _words(one.content)) for one in latest)], param="messages")

    @property
    def ignored(self) -> list[str]:
        """Fields that have no effect."""
        named = {"state": self.state, "forwardedProps": self.forwarded_props}
        return [name for name, value in named.items() if value]


def _words(content: JsonValue) -> str:
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            return "\n".join(map(_part, content))
        case _:
            raise InvalidRequest("The content of a message is text or a list of parts.", param="messages")


def _part(part: JsonValue) -> str:
    match part:
        case {"type": "text", "text": str() as text}:
            return text
        case _:
            raise InvalidRequest("A message may hold text and nothing else.", param="messages")
