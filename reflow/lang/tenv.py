"""Type environments: what names mean while a program is checked, and which of them were used.

One table serves all scopes: a scope remembers what its names hid, and puts that back when it ends. So a
look-up costs the same at any depth.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from reflow.lang.source import NO_POS, Pos
from reflow.lang.types import (
    DIR,
    FILE,
    INT,
    STRING,
    Field,
    Type,
    flow_of,
    func_of,
    is_exported,
)


class Use(enum.Enum):
    """When a name that nothing refers to is worth a warning."""

    ALWAYS = enum.auto()
    NEVER = enum.auto()
    UNEXPORTED = enum.auto()


class Symbol:
    """What a name is bound to."""

    __slots__ = ("name", "pos", "type", "use", "used")

    def __init__(self, name: str, type: Type, pos: Pos, use: Use) -> None:
        self.name = name
        self.type = type
        self.pos = pos
        self.use = use
        self.used = False

    @property
    def is_unused(self) -> bool:
        """Whether it should have been used and was not."""
        if self.used or self.use is Use.NEVER:
            return False
        return self.use is Use.ALWAYS or not is_exported(self.name)


class TypeEnv:
    """Names in scope, innermost first. Aliases of types are bound by modules only, and have no scopes."""

    def __init__(self) -> None:
        self.values: dict[str, Symbol] = {}
        self.aliases: dict[str, Type] = {}
        self._scopes: list[dict[str, Symbol | None]] = [{}]

    def push(self) -> None:
        """Open a scope."""
        self._scopes.append({})

    def pop(self) -> list[Symbol]:
        """Close the innermost scope; return its names, those bound again left out."""
        hidden = self._scopes.pop()
        values = self.values
        symbols = [values[name] for name in hidden]
        for name, symbol in hidden.items():
            if symbol is None:
                del values[name]
            else:
                values[name] = symbol
        return symbols

    def bind(self, name: str, type: Type, pos: Pos = NO_POS, use: Use = Use.NEVER) -> None:
        """Bind a name in the innermost scope; a binding of the same scope is replaced and forgotten."""
        scope = self._scopes[-1]
        if name not in scope:
            scope[name] = self.values.get(name)
        self.values[name] = Symbol(name, type, pos, use)

    def symbols(self) -> Iterable[Symbol]:
        """What the innermost scope binds, in order of first binding."""
        return [self.values[name] for name in self._scopes[-1]]


def unused(symbols: Iterable[Symbol]) -> list[Symbol]:
    """Those that deserve a warning, in order of place."""
    return sorted([each for each in symbols if each.is_unused], key=lambda each: each.pos.sort_key())


_UNITS = ("KiB", "MiB", "GiB", "TiB")
_BASE: dict[str, Type] = {
    "file": flow_of(func_of([Field("url", STRING)], FILE)),
    "dir": flow_of(func_of([Field("url", STRING)], DIR)),
    **dict.fromkeys(_UNITS, INT),
}


def base_type_env() -> TypeEnv:
    """A new environment with what every module finds bound: ``file``, ``dir``, ``KiB`` to ``TiB``."""
    env = TypeEnv()
    for name, type in _BASE.items():
        env.bind(name, type)
    return env
