"""The scripted model as a bare ASGI application that speaks the OpenAI chat completions format.

A test instrument, not a language model: it plays the model of an agent from rules over the conversation, so that the
same conversation and seed get the same answer. `POST /v1/chat/completions`, `GET /v1/models`, `GET /health`, `GET /`.

A request may choose its persona by the header `x-scripted-persona`, or by a model name such as `gpt-4.1-mini@looping`,
and its fault by the header `x-scripted-fault` (see `faults.py`).
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import msgspec

from cattlegrid.core.errors import CattlegridError, ContextTooLong, InvalidRequest
from cattlegrid.testing.scripted import wire
from cattlegrid.testing.scripted.conversation import Conversation, parse
from cattlegrid.testing.scripted.delivery import Answer, Delivery, Receive, Send, send_json
from cattlegrid.testing.scripted.faults import Attempts, Fault, drawn_fault, parse_fault
from cattlegrid.testing.scripted.personas import PERSONAS, Persona, as_persona, respond
from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.usage import PromptCache, Usage, completion_tokens, prefixes

Scope = MutableMapping[str, Any]

NOTICE = (
    "A scripted model: a deterministic test instrument that answers from rules. It is not a language model."
)
CONTEXT_TOKENS = 128_000
DEFAULT_MODEL = "gpt-4.1-mini"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the scripted model behaves when a request does not say otherwise."""

    persona: Persona = "careful"
    seed: int = 0
    latency_s: float = 0.0
    """Time to the first byte of an answer."""
    chunk_delay_s: float = 0.0
    """Time between the chunks of a stream; with 0 they all leave in one write."""
    fault: Fault | None = None
    stall_s: float = 60.0
    """How long a stall of the flaky persona lasts."""


def create_app(
    *,
    persona: str = "careful",
    seed: int = 0,
    latency_s: float = 0.0,
    chunk_delay_s: float = 0.0,
    fault: str = "",
    stall_s: float = 60.0,
) -> "ScriptedModel":
    """Make the ASGI application. `fault` is what `x-scripted-fault` would say, for every request.

    Raises:
        InvalidRequest: an unknown persona or fault.
    """
    return ScriptedModel(
        Settings(
            persona=as_persona(persona),
            seed=seed,
            latency_s=latency_s,
            chunk_delay_s=chunk_delay_s,
            fault=parse_fault(fault) if fault else None,
            stall_s=stall_s,
        )
    )


class ScriptedModel:
    """The ASGI application. It remembers digests only: of prefixes, for cached tokens, and of failed attempts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = PromptCache()
        self._attempts = Attempts()
        self.completions = 0
        """How many chat completions were asked for so far, failed ones too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        match (scope["method"], scope["path"]):
            case ("POST", "/v1/chat/completions"):
                await self._complete(scope, receive, send)
            case ("GET", "/v1/models"):
                await send_json(send, 200, msgspec.json.encode(_models()))
            case ("GET", "/health"):
                await send_json(send, 200, b'{"status":"ok"}')
            case ("GET", "/"):
                shown = msgspec.to_builtins(self._settings)
                await send_json(send, 200, msgspec.json.encode({"notice": NOTICE, "settings": shown}))
            case _:
                await send_json(send, 404, wire.error("Unknown URL", kind="invalid_request_error"))

    async def _complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.completions += 1
        try:
            answer = self._answer(await _body(receive), headers=dict(scope["headers"]))
        except CattlegridError as problem:
            code = "context_length_exceeded" if isinstance(problem, ContextTooLong) else None
            await send_json(send, 400, wire.error(problem.message, kind="invalid_request_error", code=code))
            return
        if self._settings.latency_s:
            await asyncio.sleep(self._settings.latency_s)
        delivery = Delivery(send, receive, chunk_delay_s=self._settings.chunk_delay_s)
        await delivery.deliver(answer)

    def _answer(self, body: bytes, *, headers: dict[bytes, bytes]) -> Answer:
        conversation = parse(body)
        persona = self._persona_of(conversation, headers)
        seen = prefixes(conversation)
        request, prompt_tokens = seen[-1].digest, seen[-1].tokens
        if prompt_tokens > CONTEXT_TOKENS:
            raise ContextTooLong(
                f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your messages resulted in"
                f" {prompt_tokens} tokens."
            )
        reply = respond(conversation, persona=persona, seed=self._settings.seed)
        reply, finish_reason = _bounded(reply, conversation.max_tokens)
        cached_tokens = self._cache.cached_tokens(seen)
        usage = Usage(prompt_tokens, completion_tokens(reply), cached_tokens)
        envelope = wire.Envelope(
            id=f"{request.hex()}{self._settings.seed:x}",
            model=conversation.model,
            finish_reason=finish_reason,
            usage=usage,
        )
        fault = self._fault_of(persona, headers, request)
        return Answer(conversation, reply, envelope, fault)

    def _persona_of(self, conversation: Conversation, headers: dict[bytes, bytes]) -> Persona:
        _, _, suffix = conversation.model.partition("@")
        name = headers.get(b"x-scripted-persona", b"").decode("latin-1") or suffix
        return as_persona(name) if name else self._settings.persona

    def _fault_of(self, persona: Persona, headers: dict[bytes, bytes], request: bytes) -> Fault | None:
        fault = self._settings.fault
        if persona == "flaky" and fault is None:
            fault = drawn_fault(self._settings.seed, request)
            if fault is not None and fault.kind == "stall":
                fault = msgspec.structs.replace(fault, delay_s=self._settings.stall_s)
        if forced := headers.get(b"x-scripted-fault"):
            fault = parse_fault(forced.decode("latin-1"))
        return fault if fault is not None and self._attempts.fails(fault, request) else None


def _bounded(reply: Reply, max_tokens: int | None) -> tuple[Reply, str]:
    """The reply within a limit of tokens, and why it ended."""
    if reply.calls:
        return reply, "tool_calls"
    if max_tokens is None or completion_tokens(reply) <= max_tokens:
        return reply, "stop"
    return msgspec.structs.replace(reply, text=reply.text[: max(0, max_tokens - 1) * 4]), "length"


def _models() -> dict[str, object]:
    names = (DEFAULT_MODEL, *(f"{DEFAULT_MODEL}@{persona}" for persona in PERSONAS))
    entries = [
        {"id": name, "object": "model", "created": wire.CREATED, "owned_by": "scripted"} for name in names
    ]
    return {"object": "list", "data": entries}


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The client went away")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
