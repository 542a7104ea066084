"""The system modules by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflow.lang.builtins.func import Native, SystemFunction
from reflow.lang.builtins.interface import read_interface
from reflow.lang.module import Module, Param
from reflow.lang.types import Field as TypeField
from reflow.lang.types import FuncType, ModuleType, Type, flow_of, module_of
from reflow.lang.value import Struct

PREFIX = "$/"
NAMES = ("dirs", "files", "filesets", "path", "regexp", "strings", "test")


class SystemModule:
    """A module that is part of this program: no parameters, functions only. One instance serves all."""

    def __init__(self, name: str) -> None:
        self.path = PREFIX + name
        natives: Mapping[str, Native] = import_module(f"reflow.lang.builtins.{name}").FUNCTIONS
        self.functions: dict[str, SystemFunction] = {}
        self._docs: dict[str, str] = {}
        for each in read_interface(name):
            native = natives[each.name]
            type = flow_of(each.type) if native.is_flow else each.type
            assert isinstance(type, FuncType)
            self.functions[each.name] = SystemFunction(name, each.name, type, native)
            self._docs[each.name] = each.doc

    @cached_property
    def type(self) -> ModuleType:
        """Its functions, in order of declaration."""
        made = module_of([TypeField(name, each.type) for name, each in self.functions.items()])
        assert isinstance(made, ModuleType)
        return made

    def params(self) -> Sequence[Param]:
        """None."""
        return ()

    def type_with(self, args: Mapping[str, Type]) -> ModuleType:
        """Its type, as ever."""
        return self.type

    def doc(self, name: str) -> str:
        """The comment of a function."""
        return self._docs.get(name, "")

    def make(self, session: Any, args: Mapping[str, Any]) -> Struct:
        """The functions by name."""
        return Struct(self.functions)


_opened: dict[str, SystemModule] = {}


def system_module(name: str) -> SystemModule | None:
    """The system module of a name (without ``$/``), or None when there is no such module."""
    if name not in NAMES:
        return None
    if name not in _opened:
        _opened[name] = SystemModule(name)
    return _opened[name]


if TYPE_CHECKING:
    _: type[Module] = SystemModule
