"""`cattlegrid bundle`: build, compare and move versions of agents."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cattlegrid.app.bundle_text import (
    changed_anything,
    diff_lines,
    listed,
    manifest_lines,
    version_document,
    version_line,
)
from cattlegrid.app.compose import open_registry
from cattlegrid.app.options import JsonOption, command_group, examples, options_of
from cattlegrid.app.terminal import clean, err, out, print_json
from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import BundleInvalid, Conflict, InvalidRequest, NotFound
from cattlegrid.release.build import BuiltBundle, build
from cattlegrid.release.diff import BundleDiff, compare
from cattlegrid.release.project import Project, find_root, load_project
from cattlegrid.release.registry import BundleRegistry
from cattlegrid.release.schemas import editor_schemas
from cattlegrid.release.summary import describe

T = TypeVar("T")
Version = Annotated[
    str, typer.Argument(help="`shop` for the newest, `shop#3`, or the beginning of a digest.")
]

app = command_group(
    "Build, compare and move versions of agents.",
    "cattlegrid bundle build",
    "cattlegrid bundle list shop",
    "cattlegrid bundle diff 'shop#1' 'shop#2'",
)


@app.callback()
def bundle() -> None:
    """Build, compare and move versions of agents.

    A bundle is everything that defines one version of an agent: prompts, code, schemas, models, limits, policy and the
    dependency lock. The same content has the same digest everywhere, and its number in this project.
    """


@app.command(
    "build",
    epilog=examples("cattlegrid bundle build", "cattlegrid bundle build shop --json | jq -r .[0].digest"),
)
def build_command(
    context: typer.Context,
    *,
    agent: Annotated[str, typer.Argument(help="One agent; without it all of the project.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check agents and register them; an agent that has not changed keeps its number.

    In production, agents whose files differ from their commit are refused.
    """
    project = _project(context)
    built = _build(project, (agent,) if agent else project.agents)

    async def register(registry: BundleRegistry) -> list[BundleVersion]:
        return [await registry.register(one) for one in built]

    versions = _with_registry(project, register)
    if as_json:
        print_json([version_document(version) for version in versions])
        return
    for one, version in zip(built, versions, strict=True):
        for warning in one.warnings:
            err().print(clean(f"warning: {warning}"), style="yellow", soft_wrap=True)
        out().print(clean(f"{version_line(version)}  {describe(one.bundle)}"), soft_wrap=True)


@app.command("list", epilog=examples("cattlegrid bundle list", "cattlegrid bundle list shop --json"))
def list_command(
    context: typer.Context,
    *,
    agent: Annotated[str, typer.Argument(help="One agent; without it all that have versions.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the versions of agents, newest first."""

    async def versions_of(registry: BundleRegistry) -> list[tuple[BundleVersion, ...]]:
        agents = (agent,) if agent else await registry.agents()
        return [await registry.versions(name) for name in agents]

    found = _with_registry(_project(context), versions_of)
    if as_json:
        print_json([version_document(version) for versions in found for version in reversed(versions)])
        return
    if not any(found):
        err().print("There are no versions yet: `cattlegrid bundle build` makes them.")
    for versions in found:
        for line in listed(versions):
            out().print(clean(line), soft_wrap=True)


@app.command(
    epilog=examples(
        "cattlegrid bundle show shop",
        "cattlegrid bundle show 'shop#1' --file prompts/system.md",
        "cattlegrid bundle show 3f9c2ab1 --json",
    )
)
def show(
    context: typer.Context,
    *,
    version: Version,
    file: Annotated[str, typer.Option(help="Print this file of the bundle, byte for byte.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what is in a version."""

    async def find(registry: BundleRegistry) -> tuple[BundleVersion, BuiltBundle]:
        found = await registry.find(version)
        return found, await _registered(registry, found)

    found, registered = _with_registry(_project(context), find)
    if file:
        if file not in registered.files:
            raise NotFound(f"{found} has no file `{file}`.")
        sys.stdout.buffer.write(registered.files[file])
    elif as_json:
        print_json({**version_document(found), "manifest": registered.bundle})
    else:
        for line in manifest_lines(found, registered.bundle):
            out().print(clean(line), soft_wrap=True)


@app.command(
    epilog=examples(
        "cattlegrid bundle diff shop                  # the newest version and the files as they are now",
        "cattlegrid bundle diff 'shop#1' 'shop#2'",
    )
)
def diff(
    context: typer.Context,
    *,
    before: Version,
    after: Annotated[
        str, typer.Argument(help="Another version; without it the agent's files as they are.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Compare two versions: the fields of their manifests, and their files line by line."""
    project = _project(context)

    async def both(registry: BundleRegistry) -> BundleDiff:
        first = await registry.find(before)
        old = await _registered(registry, first)
        if after:
            new = await _registered(registry, await registry.find(after))
        else:
            new = build(project, first.agent)
        return compare(old.bundle, new.bundle, files_before=old.files, files_after=new.files)

    difference = _with_registry(project, both)
    if as_json:
        print_json(difference)
        return
    if not changed_anything(difference):
        err().print("They are the same.")
    for line, style in diff_lines(difference):
        out().print(clean(line), style=style, soft_wrap=True)


@app.command(
    epilog=examples(
        "cattlegrid bundle export shop",
        "cattlegrid bundle export 'shop#3' --output - | ssh host cat '>' shop.tar",
    )
)
def export(
    context: typer.Context,
    *,
    version: Version,
    output: Annotated[str, typer.Option("--output", "-o", help="A new file; `-` is standard output.")] = "",
) -> None:
    """Write a version into one file that `bundle import` takes elsewhere, with the same digest."""

    async def pack(registry: BundleRegistry) -> tuple[BundleVersion, bytes]:
        found = await registry.find(version)
        return found, await registry.export(found)

    found, archive = _with_registry(_project(context), pack)
    if output == "-":
        sys.stdout.buffer.write(archive)
        return
    path = Path(output or f"{found.agent}-{found.number}-{found.digest[:8]}.tar")
    try:
        with path.open("xb") as file:
            file.write(archive)
    except FileExistsError as error:
        raise Conflict(f"{path} exists. Remove it, or choose another name with --output.") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from error
    out().print(f"{path}  {found}", soft_wrap=True)


@app.command("import", epilog=examples("cattlegrid bundle import shop-3-3f9c2ab1.tar"))
def import_command(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="A file that `bundle export` made.")],
    as_json: JsonOption = False,
) -> None:
    """Register the bundle of a file; every byte is verified first.

    The code in it will run with the rights of the server: import only what you trust.
    """
    try:
        archive = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.") from error
    version = _with_registry(_project(context), lambda registry: registry.import_(archive))
    if as_json:
        print_json(version_document(version))
    else:
        out().print(clean(version_line(version)), soft_wrap=True)


@app.command(epilog=examples("cattlegrid bundle schemas .vscode"))
def schemas(
    folder: Annotated[Path, typer.Argument(help="Where the two files go; what is there is replaced.")],
) -> None:
    """Write the JSON Schemas of agent.yaml and cattlegrid.yaml, for editors."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in editor_schemas().items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
            out().print(str(folder / name), soft_wrap=True)
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be written: {error.strerror}.") from error


def _project(context: typer.Context) -> Project:
    return load_project(find_root(options_of(context).folder))


def _build(project: Project, agents: tuple[str, ...]) -> list[BuiltBundle]:
    """Build agents; the problems of all of them are told together."""
    built: list[BuiltBundle] = []
    invalid: list[BundleInvalid] = []
    for agent in agents:
        try:
            built.append(build(project, agent))
        except BundleInvalid as error:
            invalid.append(error)
    if invalid:
        raise BundleInvalid(tuple(problem for error in invalid for problem in error.problems))
    return built


async def _registered(registry: BundleRegistry, version: BundleVersion) -> BuiltBundle:
    return BuiltBundle(
        bundle=await registry.bundle(version.digest),
        manifest=await registry.manifest(version.digest),
        files=await registry.files(version.digest),
        commit=version.commit,
        dirty=version.dirty,
    )


def _with_registry(project: Project, work: Callable[[BundleRegistry], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_registry(project.root) as registry:
            return await work(registry)

    return asyncio.run(run())
