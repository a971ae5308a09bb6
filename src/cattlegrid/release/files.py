"""The models of `agent.yaml` and `cattlegrid.yaml`: which keys there are, what they hold, and what they default to.

Everything is checked strictly: a key that is not declared here is an error, and no value is guessed from one of another
type. The docstring of a field is what editors show (`schemas/`). `release/validation.py` turns what pydantic finds into
problems with file, line, key and fix.
"""

import re
from decimal import Decimal
from typing import Annotated, Literal, cast

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.bundle import AttachmentLimits, ContextPolicy, Limits, OutcomeRule
from cattlegrid.core.messages import ModelParams
from cattlegrid.core.money import Price, nano_usd
from cattlegrid.release.identity import IdentityFile

AGENT_FILE = "agent.yaml"
PROJECT_FILE = "cattlegrid.yaml"
DEFAULT_TIER = "default"
DEGRADE = "I could not finish this. Please try again later."

_DAY_S = 86_400.0
_MIB = 1024 * 1024


def _exactly_a_number(value: object) -> object:
    """Amounts as Decimal, through their shortest text, so that 0.40 is 0.40."""
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _has_default(models: dict[str, str]) -> dict[str, str]:
    if DEFAULT_TIER not in models:
        raise ValueError("The tier `default` is missing | Add `default: small`")
    return models


def _not_empty(models: "dict[str, ModelFile]") -> "dict[str, ModelFile]":
    if not models:
        fix = "Add `small: {provider: openai, model: gpt-4.1-mini}`"
        raise ValueError(f"At least one model is needed | {fix}")
    return models


def _variable(name: str) -> str:
    """The value is not shown again: people paste the key itself."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
        fix = "Write the variable's name, for example `GROQ_API_KEY`; the key itself belongs in no file"
        raise ValueError(f"This is not the name of an environment variable | {fix}")
    return name


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", url):
        fix = "Write it without user, query and fragment, for example `http://127.0.0.1:8000/v1`"
        raise ValueError(f"This is not the address of a server | {fix}")
    return url


def _as_tuple(value: object) -> object:
    return tuple(cast(list[object], value)) if isinstance(value, list) else value


AgentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
OneLine = Annotated[str, StringConstraints(pattern=r"^[^\r\n]+$", max_length=300)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Seconds = Annotated[float, Field(gt=0, le=366 * _DAY_S, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000)]
Bytes = Annotated[int, Field(ge=1, le=16 * _MIB)]
Names = Annotated[tuple[FunctionName, ...], BeforeValidator(_as_tuple)]
Features = Annotated[tuple[Word, ...], BeforeValidator(_as_tuple)]
Stops = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple), Field(max_length=16)]
Dollars = Annotated[
    Decimal,
    BeforeValidator(_exactly_a_number),
    Field(ge=0, le=1_000_000, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Variable = Annotated[str, AfterValidator(_variable)]
Address = Annotated[str, StringConstraints(max_length=500), AfterValidator(_address)]
Conditions = Annotated[dict[FunctionName, Line], Field(examples=[{"refund": "amount > 50"}])]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ContextFile(_File):
    """How the history is kept within the model's window."""

    max_tokens: Annotated[int, Field(ge=256, le=10_000_000)] = ContextPolicy().max_tokens
    """Upper bound of one request, in tokens, estimated from bytes."""
    strategy: Literal["window", "summarise"] = ContextPolicy().strategy
    """`window` drops the oldest messages, `summarise` replaces them by a summary."""


class LimitsFile(_File):
    """Bounds of one run."""

    model_call_s: Seconds = Limits().model_call_s
    """Seconds that one model call may take."""
    run_s: Seconds = Limits().run_s
    """Seconds that a run may take, without the time on hold."""
    model_turns: Count = Limits().model_turns
    """Model calls of one run."""
    tool_calls_per_turn: Count = Limits().tool_calls_per_turn
    """Tool calls that one answer of the model may ask for."""
    input_bytes: Bytes = Limits().input_bytes
    """Size of a user's message."""
    output_bytes: Bytes = Limits().output_bytes
    """Size of an answer."""
    tool_result_bytes: Bytes = Limits().tool_result_bytes
    """Size of one tool's result."""
    queue: Annotated[int, Field(ge=0, le=1_000)] = Limits().queue
    """Requests that may wait for one session."""
    approval_s: Seconds = Limits().approval_s
    """Seconds after which a held step expires, which rejects it."""


class AttachmentsFile(_File):
    """Bounds of the files that come with one request."""

    count: Annotated[int, Field(ge=0, le=16)] = AttachmentLimits().count
    """Files of one request; 0 takes none."""
    file_bytes: Bytes = AttachmentLimits().file_bytes
    """Size of one file."""
    text_bytes: Bytes = AttachmentLimits().text_bytes
    """Size of the text that is taken out of one file."""
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = AttachmentLimits().rows
    """Rows of a table."""
    columns: Annotated[int, Field(ge=1, le=10_000)] = AttachmentLimits().columns
    """Columns of a table."""
    cell_chars: Annotated[int, Field(ge=1, le=100_000)] = AttachmentLimits().cell_chars
    """Characters of one cell."""
    pages: Annotated[int, Field(ge=1, le=2_000)] = AttachmentLimits().pages
    """Pages of a PDF file."""


class OutcomeFile(_File):
    """When a session closes, and with which outcome."""

    idle_s: Seconds = OutcomeRule().idle_s
    """Seconds without a request after which a session closes."""
    escalated_by: Names = ()
    """Tools: a successful call of one of them makes the outcome `escalated`."""


class AgentFile(_File):
    """`agent.yaml`: what defines an agent, beside its prompts and its code."""

    schema_: Annotated[str, Field(alias="$schema")] = ""
    """Where editors find the JSON Schema of this file."""
    name: AgentName
    """The name of the agent, the same as its folder: lower-case letters, digits, `-` and `_`."""
    description: OneLine
    """What the agent is for, in one line."""
    loop: Literal["native"] = "native"
    """Who drives the agent: Cattlegrid's own loop."""
    models: Annotated[
        dict[Word, Word], AfterValidator(_has_default), Field(json_schema_extra={"required": [DEFAULT_TIER]})
    ]
    """Tier to model: names of models in `cattlegrid.yaml`. The tier `default` is required."""
    context: ContextFile = ContextFile()
    """How the history is kept within the model's window."""
    tools: Names | None = None
    """Tools that the model is offered; without this key all but those that undo or reconcile another tool."""
    approve: Conditions = {}
    """Tool to condition over its arguments, for example `amount > 50` or `always`: a person must agree."""
    deny: Conditions = {}
    """Tool to condition over its arguments: such a call never runs."""
    limits: LimitsFile = LimitsFile()
    """Bounds of one run."""
    attachments: AttachmentsFile | None = None
    """Bounds of the files that come with one request."""
    features: Features = ()
    """Tags that a run may carry, for cost and review."""
    outcome: OutcomeFile = OutcomeFile()
    """When a session closes, and with which outcome."""
    degrade: Text = DEGRADE
    """What the user is told when a run cannot be finished."""
    snapshot: FunctionName | None = None
    """A plain function of `tools.py` that returns text; its value is recorded at the start of each run."""


class PriceFile(_File):
    """US dollars per million tokens."""

    input: Dollars
    """Input tokens."""
    cached_input: Dollars | None = None
    """Input tokens that the provider had kept; by default the price of input."""
    cache_write: Dollars | None = None
    """Input tokens that the provider keeps for later calls; by default the price of input."""
    output: Dollars
    """Output tokens."""

    def price(self) -> Price:
        """The price in nano-dollars."""
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        return Price(
            input_nano_usd=nano_usd(self.input),
            output_nano_usd=nano_usd(self.output),
            cache_read_nano_usd=nano_usd(cached),
            cache_write_nano_usd=nano_usd(written),
        )


class ModelFile(_File):
    """A model with its parameters."""

    provider: Word
    """`openai`, `openai-responses`, `anthropic`, `gemini`, or a name under `providers`."""
    model: Line
    """The name of the model, as the provider calls it."""
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    """How much chance there is in the choice of words."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Words are chosen from the likeliest that together have this probability."""
    seed: int | None = None
    """Asks the provider for the same choices each time."""
    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Tokens of one answer at most."""
    stop: Stops = ()
    """Texts at which the answer ends."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may ask for several tool calls."""
    reasoning_effort: Word | None = None
    """How much a reasoning model thinks, for example `low`; for Anthropic and Gemini also a number of tokens, in quotes."""
    price: PriceFile | None = None
    """US dollars per million tokens; by default what the table of known prices says."""

    def params(self) -> ModelParams:
        """The parameters of sampling."""
        return msgspec.convert(
            {name: getattr(self, name) for name in ModelParams.__struct_fields__}, ModelParams, strict=True
        )


class ProviderFile(_File):
    """Where models are asked, and in which format."""

    wire: WireName | None = None
    """The format: `openai` is chat completions, which vLLM, Ollama, LiteLLM and most other servers speak."""
    base_url: Address | None = None
    """The address as the provider's own clients take it; required but for the four providers known by name."""
    api_key_env: Variable | None = None
    """The name of the environment variable that holds the key; without it, a server of your own gets none."""


class RetentionFile(_File):
    """How long data is kept."""

    sessions_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Days after which closed sessions are deleted; by default never."""


class ProjectFile(_File):
    """`cattlegrid.yaml`: what the agents of a project share."""

    schema_: Annotated[str, Field(alias="$schema")] = ""
    """Where editors find the JSON Schema of this file."""
    environment: Literal["development", "staging", "production"] = "development"
    """Where this is; in `production` only agents without uncommitted changes are accepted."""
    agents: Line = "agents"
    """The folder of the agents' folders, seen from this file."""
    models: Annotated[dict[Word, ModelFile], AfterValidator(_not_empty)]
    """The models that agents refer to, by name."""
    providers: dict[Word, ProviderFile] = {}
    """Servers that speak one of the formats, by the name that models use; or changes to those known by name."""
    retention: RetentionFile = RetentionFile()
    """How long data is kept."""
    identity: IdentityFile = IdentityFile()
    """Who may come in beside the holders of API keys."""
