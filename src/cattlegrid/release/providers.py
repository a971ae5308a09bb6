"""Turns what `cattlegrid.yaml` says of models and providers into endpoints, or into what is wrong with it.

Four providers are known by name, one for each wire format, with the address and the variables that their own clients
use. A project adds others under `providers:`, or changes these.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from cattlegrid.calls.wire.anthropic_request import MAX_TOKENS
from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import Problem
from cattlegrid.release.files import PROJECT_FILE, ModelFile, ProjectFile
from cattlegrid.release.validation import choose
from cattlegrid.release.yaml_lines import Document

LEAST_BUDGET: Final = 1_024
"""Anthropic's smallest budget for thinking, in tokens."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Where models of one name are asked."""

    name: str
    wire: WireName
    base_url: str
    """As declared, else the provider's own; empty when there is neither."""
    api_key_env: str
    """The environment variable that holds the key; empty when no key is sent."""
    base_url_env: str = ""
    """The environment variable that may give another address, where none is declared."""
    declared_url: bool = False
    needs_key: bool = True
    """False where an address of one's own may do without."""


BUILT_IN: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        Provider(
            name="openai",
            wire="openai",
            base_url="https://api.openai.com/v1",
            api_key_env="OPENAI_API_KEY",
            base_url_env="OPENAI_BASE_URL",
        ),
        Provider(
            name="openai-responses",
            wire="openai-responses",
            base_url="https://api.openai.com/v1",
            api_key_env="OPENAI_API_KEY",
            base_url_env="OPENAI_BASE_URL",
        ),
        Provider(
            name="anthropic",
            wire="anthropic",
            base_url="https://api.anthropic.com",
            api_key_env="ANTHROPIC_API_KEY",
            base_url_env="ANTHROPIC_BASE_URL",
        ),
        Provider(
            name="gemini",
            wire="gemini",
            base_url="https://generativelanguage.googleapis.com",
            api_key_env="GEMINI_API_KEY",
            base_url_env="GEMINI_BASE_URL",
        ),
    )
}

_NOT_TAKEN: Final[Mapping[WireName, tuple[str, ...]]] = {
    "openai": (),
    "openai-responses": ("seed", "stop"),
    "anthropic": ("seed",),
    "gemini": ("parallel_tool_calls",),
}
_EFFORTS: Final[Mapping[WireName, tuple[str, ...]]] = {
    "anthropic": ("none", "low", "medium", "high", "xhigh", "max"),
    "gemini": ("none", "minimal", "low", "medium", "high", "xhigh"),
}


def providers_of(file: ProjectFile) -> dict[str, Provider]:
    """Every provider that models of the project may name, by name."""
    found = dict(BUILT_IN)
    for name, declared in file.providers.items():
        known = BUILT_IN.get(name)
        found[name] = Provider(
            name=name,
            wire=declared.wire or (known.wire if known else "openai"),
            base_url=declared.base_url or (known.base_url if known else ""),
            api_key_env=declared.api_key_env or (known.api_key_env if known else ""),
            base_url_env=known.base_url_env if known and not declared.base_url else "",
            declared_url=bool(declared.base_url),
            needs_key=bool(declared.api_key_env) or not declared.base_url,
        )
    return found


def provider_problems(file: ProjectFile, document: Document) -> tuple[Problem, ...]:
    """What is wrong with how models and providers go together, with line and fix."""
    providers = providers_of(file)
    found: list[Problem] = []

    def wrong(path: tuple[str, ...], message: str, fix: str) -> None:
        key = ".".join(path)
        line = document.line_of(path)
        found.append(Problem(file=PROJECT_FILE, line=line, key=key, message=message, fix=fix))

    for name, provider in providers.items():
        if not provider.base_url:
            message = f"The address of `{name}` is missing"
            wrong(("providers", name), message, "Add `base_url: http://127.0.0.1:8000/v1`")
    for name, model in file.models.items():
        provider = providers.get(model.provider)
        if provider is None:
            message = f"There is no provider `{model.provider}`"
            fix = choose(model.provider, providers, otherwise="Choose one")
            fix += (
                f", or declare it: `providers: {{{model.provider}: {{base_url: http://127.0.0.1:8000/v1}}}}`"
            )
            wrong(("models", name, "provider"), message, fix)
            continue
        for key, message, fix in _misfits(model, provider):
            wrong(("models", name, key), message, fix)
    return tuple(found)


def _misfits(model: ModelFile, provider: Provider) -> Iterator[tuple[str, str, str]]:
    """Parameters that the wire format of the model does not have: key, message and fix."""
    wire = provider.wire
    for key in _NOT_TAKEN[wire]:
        if getattr(model, key) not in (None, ()):
            yield key, f"The format `{wire}` has no `{key}`", "Remove it"
    if wire == "anthropic" and (model.temperature or 0) > 1:
        yield "temperature", f"`{model.temperature:g}` must be 1 or less for `anthropic`", "Change the value"
    if wire == "gemini" and "/" in model.model.removeprefix("models/").removeprefix("tunedModels/"):
        yield (
            "model",
            f"`{model.model[:60]}` is no name of a Gemini model",
            "Write, for example, `gemini-2.5-flash`",
        )
    if model.reasoning_effort is not None and wire in _EFFORTS:
        yield from _wrong_effort(model, model.reasoning_effort, wire)


def _wrong_effort(model: ModelFile, effort: str, wire: WireName) -> Iterator[tuple[str, str, str]]:
    key, words = "reasoning_effort", _EFFORTS[wire]
    if not effort.isdecimal():
        if effort not in words:
            fix = choose(effort, words, otherwise="Remove it")
            yield (
                key,
                f"`{effort}` is no effort that `{wire}` knows",
                f"{fix}, or write a number of tokens in quotes",
            )
        return
    most = model.max_output_tokens or MAX_TOKENS
    if wire == "anthropic" and not LEAST_BUDGET <= int(effort) < most:
        message = f"A budget of `{effort}` tokens is not from {LEAST_BUDGET} to below the {most} of an answer"
        yield key, message, "Change it, or raise `max_output_tokens`"
