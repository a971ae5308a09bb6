"""Writes small projects for the tests of bundles: one agent, its files as given."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from cattlegrid.core.errors import Problem
from cattlegrid.release.build import BuiltBundle, Examined, build, examine
from cattlegrid.release.project import load_project

PROJECT = """
models:
  small: {provider: openai, model: gpt-4.1-mini, temperature: 0}
  large: {provider: openai, model: gpt-4.1}
"""
AGENT = """
name: shop
description: Customer service of a small shop
models:
  default: small
approve:
  refund: amount > 50
"""
TOOLS = '''
"""The shop's tools."""

from dataclasses import dataclass

from cattlegrid import Context, tool

from .prices import euros


@dataclass(frozen=True)
class Order:
    """An order."""

    order: int
    total_eur: float


@tool()
def find_order(order: int, ctx: Context) -> Order:
    """Look up one order.

    Args:
        order: The number of the order.
    """
    return Order(order, euros(7990))


@tool(effect="write", retry="keyed", undo="take_back")
def refund(order: int, amount: float, ctx: Context) -> Order:
    """Refund money.

    Args:
        order: The number of the order.
        amount: How much, in euros.
    """
    return Order(order, amount)


@tool(effect="write", retry="free")
def take_back(order: int, result: Order) -> None:
    """Take a refund back."""
'''
PRICES = '''
"""Money."""


def euros(cents: int) -> float:
    """Euros of an amount in cents."""
    return cents / 100
'''
FILES = {
    "agent.yaml": AGENT,
    "prompts/system.md": "You are the shop's customer service.\n",
    "tools.py": TOOLS,
    "prices.py": PRICES,
}


def write_project(
    root: Path, files: Mapping[str, str | None] | None = None, *, project: str = PROJECT, agent: str = "shop"
) -> Path:
    """Write a project with one agent; `files` change the usual ones, and None leaves one out. Returns the root."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "cattlegrid.yaml").write_text(project)
    for name, text in {**FILES, **(files or {})}.items():
        path = root / "agents" / agent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(dedent(text), newline="")
    return root


def built(
    root: Path, files: Mapping[str, str | None] | None = None, *, project: str = PROJECT
) -> BuiltBundle:
    """The bundle of a project that is written first."""
    return build(load_project(write_project(root, files, project=project)), "shop")


def examined(root: Path, files: Mapping[str, str | None] | None = None) -> Examined:
    """What came of looking at the agent of a project that is written first."""
    project = load_project(write_project(root, files))
    return examine(project.agent_folder("shop"), root=root.resolve(), project=project)


def tools_with(code: str) -> dict[str, str | None]:
    """An agent whose `tools.py` holds this code after the usual imports, and no conditions."""
    header = "from dataclasses import dataclass\nfrom cattlegrid import Context, NotExecuted, tool\n\n"
    return {"agent.yaml": AGENT.partition("approve:")[0], "tools.py": header + dedent(code)}


def said(problems: tuple[Problem, ...]) -> list[str]:
    """The problems as people read them."""
    return [str(problem) for problem in problems]
