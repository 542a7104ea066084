"""What the check of a module found out: kept apart from the checker, which a stored module does not need.

Source: syntax/module.go, ModuleImpl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reflow.lang.constness import is_const, with_satisfied
from reflow.lang.syntax import Decl
from reflow.lang.types import ModuleType, Type


class CheckedParam(NamedTuple):
    """A parameter with the type it was found to have; ``decl`` is a `Declare` or an `Assign`."""

    name: str
    type: Type
    decl: Decl


class ModuleInfo:
    """What the check of a module found out.

    ``params`` are in order of declaration. ``docs`` are the comments of values by name, and of exported
    aliases; ``type`` is the type when every parameter keeps its default.
    """

    def __init__(self, params: Sequence[CheckedParam], raw_type: ModuleType, docs: Mapping[str, str]) -> None:
        self.params = list(params)
        self.docs = dict(docs)
        self.raw_type = raw_type
        self.type = self.type_with({})

    def type_with(self, args: Mapping[str, Type]) -> ModuleType:
        """The type when made with arguments of these types: what hangs on one that is constant, is."""
        predicates: frozenset[int] = frozenset().union(*(each.type.predicates for each in self.params))
        for param in self.params:
            if param.name in args and not is_const(args[param.name]):
                predicates -= param.type.predicates
        satisfied = with_satisfied(self.raw_type, predicates)
        assert isinstance(satisfied, ModuleType)
        return satisfied
