"""Modules as the rest of the language sees them, whatever they are made from.

A module has parameters, a type, documentation, and can be made into a value. `SourceModule`s come from
``.rf`` files, system modules (``$/strings``) from this program, bundles (``.rfx``) from archives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reflow.lang.syntax import Expr
from reflow.lang.types import ModuleType, Type

__all__ = ["Module", "Opener", "Param"]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. ``default`` is None when it is required; ``doc`` is its comment as written."""

    name: str
    type: Type
    doc: str
    default: Expr | None

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is None


class Module(Protocol):
    """An opened module: parsed and checked."""

    @property
    def path(self) -> str:
        """The path that it was opened by."""
        ...

    @property
    def type(self) -> ModuleType:
        """Its exported values and aliases, constness as when every parameter keeps its default."""
        ...

    def params(self) -> Sequence[Param]:
        """Parameters in order of declaration; injected ones count as given (they have a default)."""
        ...

    def type_with(self, args: Mapping[str, Type]) -> ModuleType:
        """Its type when made with arguments of these types (they decide what is const)."""
        ...

    def doc(self, name: str) -> str:
        """The comment of an exported value or alias."""
        ...

    def make(self, session: Any, args: Mapping[str, Any]) -> Any:
        """Instantiate: a `Struct` of the exported values. Raises EvalError. Done anew each time."""
        ...


class Opener(Protocol):
    """What the checker opens modules with."""

    def open(self, path: str, importer_dir: str) -> Module:
        """Open a module named in ``make``. ``./x`` is relative to ``importer_dir``.

        Raises SourceError with the module's own errors, or ReflowError when it cannot be read.
        """
        ...

    def warn(self, pos: Any, text: str) -> None:
        """Tell of something suspicious at a place."""
        ...
