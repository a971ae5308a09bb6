"""Holds a value that is never printed."""

import msgspec


class Secret(msgspec.Struct, frozen=True):
    """A key or a password; its `repr` says only whether there is one."""

    value: str = ""

    def __repr__(self) -> str:
        return "Secret(set)" if self.value else "Secret(empty)"

    def __bool__(self) -> bool:
        return bool(self.value)
