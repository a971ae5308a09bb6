"""Turns the folder of an agent into a bundle, or into everything that is wrong with it.

The files are read once. What is imported to derive the tools is a copy of exactly these bytes, so that no edit in
between can make a bundle whose manifest and code differ.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.core.bundle import (
    AttachmentLimits,
    Bundle,
    ContextPolicy,
    Limits,
    ModelTier,
    OutcomeRule,
    Tool,
)
from cattlegrid.core.errors import BundleInvalid, Problem
from cattlegrid.release.files import AGENT_FILE, DEFAULT_TIER, PROJECT_FILE, AgentFile
from cattlegrid.release.findings import Findings
from cattlegrid.release.git import Provenance, provenance
from cattlegrid.release.loader import CodeBroken, load_code, unload_code
from cattlegrid.release.manifest import sha256_hex, write_manifest
from cattlegrid.release.policy import PolicyCheck
from cattlegrid.release.project import Project
from cattlegrid.release.sources import belongs, read_sources, write_sources
from cattlegrid.release.toolset import read_tools
from cattlegrid.release.validation import choose, readable_part, validate
from cattlegrid.release.yaml_lines import Document, read_yaml

PROMPT_FILE: Final = "prompts/system.md"
LOCK_FILES: Final = ("requirements.lock", "requirements.txt", "uv.lock", "pylock.toml")
"""The first of these in the project's root is its dependency lock."""

_BYTES_PER_TOKEN: Final = 3
_NEUTRAL_PACKAGE: Final = "agent"
_UNKNOWN_MODEL: Final = "0-stands-for-a-model-that-cannot-be-read"
_PLACEHOLDERS: Final[dict[str, object]] = {
    "name": "unknown",
    "description": "unknown",
    "models": {DEFAULT_TIER: _UNKNOWN_MODEL},
}


class BuiltBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle with its files, not yet numbered."""

    bundle: Bundle
    manifest: bytes
    """What the digest is the SHA-256 of."""
    files: Mapping[str, bytes]
    commit: str
    dirty: bool
    warnings: tuple[Problem, ...] = ()


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking at an agent's folder: a bundle, or problems."""

    agent: str
    built: BuiltBundle | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def build(project: Project, agent: str) -> BuiltBundle:
    """Build the bundle of an agent. Imports its code; blocks while it reads files and asks git.

    Raises:
        NotFound: the project has no such agent.
        BundleInvalid: with everything that is wrong.
    """
    found = examine(project.agent_folder(agent), root=project.root, project=project)
    if found.built is None:
        raise BundleInvalid(found.problems)
    return found.built


def examine(folder: Path, *, root: Path, project: Project | None) -> Examined:
    """Look at everything in an agent's folder.

    Args:
        folder: the agent's folder.
        root: the project's folder; problems name files from there.
        project: None when `cattlegrid.yaml` itself is wrong; then models are not looked up and nothing is built.
    """
    findings = Findings(folder.relative_to(root).as_posix())
    files, problems = read_sources(folder)
    findings.add(*problems)
    document = read_yaml(files[AGENT_FILE], file=AGENT_FILE) if AGENT_FILE in files else None
    agent = _read_agent(document, folder.name, findings)
    prompt = _read_prompt(files, findings)
    # What can be read of a file with mistakes is looked at too, so that everything is told at once.
    lines = agent or (readable_part(AgentFile, document, placeholders=_PLACEHOLDERS) if document else None)
    tiers = _tiers(lines, document, project, findings) if lines and document and project else None
    tools = _examine_code(files, lines, document, findings)
    built = None
    if agent and tiers and project and prompt is not None and not findings.problems:
        bundle = _bundle(
            agent, files=files, prompt=prompt, tiers=tiers, tools=tools, lock=_lock(project.root)
        )
        _check_size(bundle, findings)
        built = _with_origin(bundle, files, folder, project, findings.warnings)
    return Examined(agent=folder.name, built=built, problems=findings.problems, warnings=findings.warnings)


def require_clean(built: BuiltBundle, environment: str) -> None:
    """Refuse what differs from its commit in production. Raises BundleInvalid."""
    if environment == "production" and built.dirty:
        problem = Problem(
            file=built.bundle.agent,
            line=None,
            key="",
            message="Files of the agent differ from the commit, and production takes committed ones only",
            fix="Commit the changes",
        )
        raise BundleInvalid((problem,))


def _read_agent(document: Document | None, name: str, findings: Findings) -> AgentFile | None:
    if document is None:
        findings.wrong(AGENT_FILE, None, "The file is missing", "Create it; docs/bundles.md shows its keys")
        return None
    agent, problems = validate(AgentFile, document)
    findings.add(*problems)
    if agent is not None and agent.name != name:
        message = f"The agent is called `{agent.name}`, but its folder `{name}`"
        findings.wrong(AGENT_FILE, document.line_of(("name",)), message, "Use one name for both", key="name")
    return agent


def _read_prompt(files: Mapping[str, bytes], findings: Findings) -> str | None:
    content = files.get(PROMPT_FILE)
    if content is None:
        findings.wrong(
            PROMPT_FILE, None, "The system prompt is missing", "Write what the agent is and what it may do"
        )
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.wrong(PROMPT_FILE, line, "The file is not UTF-8 text", "Save it as UTF-8")
        return None
    if not text.strip():
        findings.wrong(
            PROMPT_FILE, 1, "The system prompt is empty", "Write what the agent is and what it may do"
        )
    return text


def _tiers(
    agent: AgentFile, document: Document, project: Project, findings: Findings
) -> dict[str, ModelTier] | None:
    models = project.file.models
    for tier, name in agent.models.items():
        if name not in models and name != _UNKNOWN_MODEL:
            message = f"There is no model `{name}` in `{PROJECT_FILE}`"
            fix = choose(name, models, otherwise=f"Add it to `{PROJECT_FILE}`")
            findings.wrong(AGENT_FILE, document.line_of(("models", tier)), message, fix, key=f"models.{tier}")
    if any(name not in models for name in agent.models.values()):
        return None
    return {
        tier: ModelTier(
            name=name, provider=models[name].provider, model=models[name].model, params=models[name].params()
        )
        for tier, name in agent.models.items()
    }


def _examine_code(
    files: Mapping[str, bytes], agent: AgentFile | None, document: Document | None, findings: Findings
) -> dict[str, Tool]:
    """Import a copy of the files and read the tools; check the lines of `agent.yaml` against them."""
    with tempfile.TemporaryDirectory(prefix="cattlegrid-build-") as name:
        folder = Path(name).resolve()
        # The folder's name is new each time, and so is the package: builds do not meet, not in other threads either.
        package = "cattlegrid_draft_" + "".join(
            c if c.isalnum() else "_" for c in folder.name.rpartition("-")[2]
        )
        try:
            write_sources(files, folder)
            code = load_code(folder, package=package)
            tools = read_tools(code, findings)
            if agent is None or document is None:
                return {}
            policy = PolicyCheck(agent, document, tools, findings)
            policy.check(code)
            return {name: _neutral(tool, package) for name, tool in sorted(policy.offered().items())}
        except CodeBroken as broken:
            findings.add(broken.problem)
            return {}
        finally:
            unload_code(package)


def _neutral(tool: Tool, package: str) -> Tool:
    """The manifest without the package's name, which pydantic writes where two classes have the same name."""
    raw = msgspec.json.encode(tool).decode().replace(package, _NEUTRAL_PACKAGE)
    return msgspec.json.decode(raw, type=Tool)


def _bundle(
    agent: AgentFile,
    *,
    files: Mapping[str, bytes],
    prompt: str,
    tiers: dict[str, ModelTier],
    tools: dict[str, Tool],
    lock: bytes | None,
) -> Bundle:
    bundle = Bundle(
        agent=agent.name,
        digest="",
        description=agent.description,
        models=tiers,
        context=msgspec.convert(agent.context.model_dump(), ContextPolicy),
        tools=tools,
        approve=dict(agent.approve),
        deny=dict(agent.deny),
        limits=msgspec.convert(agent.limits.model_dump(), Limits),
        features=agent.features,
        outcome=msgspec.convert(agent.outcome.model_dump(), OutcomeRule),
        degrade=agent.degrade,
        system_prompt=prompt,
        snapshot=agent.snapshot,
        files={path: sha256_hex(content) for path, content in files.items()},
        lock_digest=sha256_hex(lock) if lock is not None else "",
        attachments=(
            msgspec.UNSET
            if agent.attachments is None
            else msgspec.convert(agent.attachments.model_dump(), AttachmentLimits)
        ),
    )
    return msgspec.structs.replace(bundle, digest=sha256_hex(write_manifest(bundle)))


def _with_origin(
    bundle: Bundle, files: Mapping[str, bytes], folder: Path, project: Project, warnings: tuple[Problem, ...]
) -> BuiltBundle:
    lock = _lock_path(project.root)
    beside = (project.root / PROJECT_FILE, *([lock] if lock else []))
    origin: Provenance = provenance(folder, beside=beside, belongs=belongs)
    return BuiltBundle(
        bundle=bundle,
        manifest=write_manifest(bundle),
        files=files,
        commit=origin.commit,
        dirty=origin.dirty,
        warnings=warnings,
    )


def _check_size(bundle: Bundle, findings: Findings) -> None:
    """What is sent with every request must leave room for the conversation."""
    fixed_bytes = len(bundle.system_prompt.encode()) + sum(
        len(spec.description.encode()) + len(spec.parameters.encode()) for spec in bundle.offered_tools
    )
    tokens, most = fixed_bytes // _BYTES_PER_TOKEN, bundle.context.max_tokens
    if tokens > most // 2:
        message = f"The system prompt and the tools take about {tokens:,} of {most:,} tokens by themselves"
        findings.doubtful(
            AGENT_FILE, None, message, "Raise `context.max_tokens`, or shorten them", key="context.max_tokens"
        )
    for name, tool in bundle.tools.items():
        if tool.timeout_s > bundle.limits.run_s:
            message = (
                f"`{name}` may take {tool.timeout_s:g} s, but a run ends after {bundle.limits.run_s:g} s"
            )
            findings.doubtful(
                AGENT_FILE,
                None,
                message,
                "Raise `limits.run_s`, or lower its `timeout_s`",
                key="limits.run_s",
            )


def _lock_path(root: Path) -> Path | None:
    return next((root / name for name in LOCK_FILES if (root / name).is_file()), None)


def _lock(root: Path) -> bytes | None:
    path = _lock_path(root)
    return path.read_bytes() if path else None
