"""The names of OpenTelemetry's GenAI semantic conventions that Cattlegrid uses: the only place that spells them.

Source: open-telemetry/semantic-conventions-genai, status Development; `VERSION` is the definition they were taken from.
When the conventions move, this file moves with them. Prometheus names follow from these by `prometheus`.
"""

from typing import Final

VERSION: Final = "1.41.1"

# operations: values of OPERATION_NAME
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"

# who and what
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
CONVERSATION_ID: Final = "gen_ai.conversation.id"

# a request to a model and its answer
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
OUTPUT_TYPE: Final = "gen_ai.output.type"

# tokens
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, not a secret
TOKEN_INPUT: Final = "input"  # noqa: S105
TOKEN_OUTPUT: Final = "output"  # noqa: S105

# tools
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
FUNCTION: Final = "function"
"""The value of TOOL_TYPE for tools that run here."""

# content, for those who opt in
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that opts in."""

# metrics
CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"  # seconds
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - a name; tokens

# general conventions
ERROR_TYPE: Final = "error.type"
USER_ID: Final = "user.id"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
ENVIRONMENT_NAME: Final = "deployment.environment.name"

# our own, where the conventions have no word
TENANT: Final = "cattlegrid.tenant"
FEATURES: Final = "cattlegrid.features"
RUN_ID: Final = "cattlegrid.run.id"
RUN_STATUS: Final = "cattlegrid.run.status"
STEP_ID: Final = "cattlegrid.step.id"
STEP_KIND: Final = "cattlegrid.step.kind"
STEP_ATTEMPT: Final = "cattlegrid.step.attempt"
COST_NANO_USD: Final = "cattlegrid.cost.nano_usd"
APPROVAL_ID: Final = "cattlegrid.approval.id"
APPROVAL_DECISION: Final = "cattlegrid.approval.decision"
GUARD_NAME: Final = "cattlegrid.guard.name"
GUARD_DECISION: Final = "cattlegrid.guard.decision"
GUARD_REASON: Final = "cattlegrid.guard.reason"

# events inside a span
GUARD_EVENT: Final = "cattlegrid.guard"
HELD_EVENT: Final = "cattlegrid.held"
DECIDED_EVENT: Final = "cattlegrid.decided"
RESUMED_EVENT: Final = "cattlegrid.resumed"


def prometheus(name: str, unit: str = "") -> str:
    """The Prometheus name of an attribute or metric: dots become underscores, a unit comes last."""
    plain = name.replace(".", "_")
    return f"{plain}_{unit}" if unit else plain
