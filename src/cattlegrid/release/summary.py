"""Says in one line what a bundle is: its version, its tools, what needs a person, and its limits."""

from cattlegrid.core.bundle import Bundle


def describe(bundle: Bundle) -> str:
    """For example `3 tools, 1 needs a person (refund: amount > 50)  limits: 60 s and 10 model turns a run`."""
    parts = [_tools(bundle)]
    if bundle.deny:
        parts.append(f"denied: {_conditions(bundle.deny)}")
    limits = bundle.limits
    parts.append(f"limits: {limits.run_s:g} s and {limits.model_turns} model turns a run")
    return "  ".join(parts)


def title(bundle: Bundle, number: int) -> str:
    """For example `shop#1 (3f9c2ab1)`."""
    return f"{bundle.agent}#{number} ({bundle.digest[:8]})"


def _tools(bundle: Bundle) -> str:
    count = len(bundle.offered_tools)
    tools = f"{count or 'no'} tool{'' if count == 1 else 's'}"
    if not bundle.approve:
        return f"{tools}, none needs a person" if count else tools
    held = len(bundle.approve)
    return f"{tools}, {held} need{'s' if held == 1 else ''} a person ({_conditions(bundle.approve)})"


def _conditions(conditions: dict[str, str]) -> str:
    return ", ".join(f"{name}: {text}" for name, text in sorted(conditions.items()))
