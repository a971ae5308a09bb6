"""The frozen whole of what defines one version of an agent, without its files: those stay with the bundle store.

`digest` is SHA-256 over the canonical JSON of everything in `Bundle` that defines behaviour and of the digests of all
files; `number` counts the versions of one agent and is given when the bundle is registered.
"""

from typing import Literal

import msgspec

from cattlegrid.core.messages import ModelParams, ToolSpec
from cattlegrid.core.tools import Effect, Retry


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one run; a file can change each of them."""

    model_call_s: float = 30.0
    run_s: float = 60.0
    """Time on hold does not count."""
    model_turns: int = 10
    tool_calls_per_turn: int = 8
    input_bytes: int = 32_768
    output_bytes: int = 32_768
    tool_result_bytes: int = 65_536
    queue: int = 16
    """Requests that may wait for one session."""
    approval_s: float = 86_400.0


class AttachmentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the files that come with one request; a file can change each of them."""

    count: int = 4
    file_bytes: int = 524_288
    text_bytes: int = 16_384
    """Of the text that is taken out of one file."""
    rows: int = 1_000
    columns: int = 50
    cell_chars: int = 1_000
    pages: int = 30


class ContextPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the history is kept below `max_tokens` (an upper bound by bytes)."""

    max_tokens: int = 16_000
    strategy: Literal["window", "summarise"] = "window"


class ModelTier(msgspec.Struct, frozen=True, kw_only=True):
    """A model with its parameters, as the project's file defines it at the time the bundle is built."""

    name: str
    """The name in `cattlegrid.yaml`."""
    provider: str
    model: str
    params: ModelParams = ModelParams()


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one tool. Schemas are JSON texts; `returns` is empty when the function declares nothing."""

    spec: ToolSpec
    returns: str
    effect: Effect
    retry: Retry
    timeout_s: float
    undo: str | None = None
    reconcile: str | None = None
    offered: bool = True
    """Whether the model is told of it; undo and reconcile tools are for the runtime alone."""

    @property
    def name(self) -> str:
        return self.spec.name


class OutcomeRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a session closes, and what makes its outcome `escalated`."""

    idle_s: float = 1_800.0
    escalated_by: tuple[str, ...] = ()


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an agent."""

    agent: str
    digest: str
    """64 hexadecimal characters."""
    description: str
    models: dict[str, ModelTier]
    """By tier; `default` is always there."""
    context: ContextPolicy
    tools: dict[str, Tool]
    approve: dict[str, str]
    """Tool to condition over its arguments: a person must agree."""
    deny: dict[str, str]
    limits: Limits
    features: tuple[str, ...]
    outcome: OutcomeRule
    degrade: str
    system_prompt: str
    snapshot: str | None = None
    """The plain function of `tools.py` whose value each run records."""
    files: dict[str, str]
    """Path to SHA-256, of every file of the agent's folder."""
    lock_digest: str
    """SHA-256 of the project's dependency lock; empty when there is none."""
    attachments: AttachmentLimits | msgspec.UnsetType = msgspec.UNSET
    """Not part of the manifest while the agent declares none."""

    @property
    def attachment_limits(self) -> AttachmentLimits:
        """The declared ones, or the defaults."""
        return AttachmentLimits() if isinstance(self.attachments, msgspec.UnsetType) else self.attachments

    @property
    def offered_tools(self) -> tuple[ToolSpec, ...]:
        """What the model is told of, by name."""
        return tuple(self.tools[name].spec for name in sorted(self.tools) if self.tools[name].offered)


class BundleVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A registered bundle: its number, and where it came from."""

    agent: str
    number: int
    digest: str
    commit: str = ""
    dirty: bool = False

    def __str__(self) -> str:
        return f"{self.agent}#{self.number} ({self.digest[:8]})"
