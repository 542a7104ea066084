"""Modules from texts in memory: an opener for tests of the checker, without files or a session."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from reflow.core.errors import Kind, ReflowError
from reflow.lang import syntax
from reflow.lang.builtins.registry import system_module
from reflow.lang.check import ModuleInfo, check_module
from reflow.lang.module import Module, Param
from reflow.lang.parse import parse_module
from reflow.lang.source import Pos, Source
from reflow.lang.types import ModuleType, Type


class TextModule:
    """A checked module; it cannot be made into a value."""

    def __init__(self, path: str, parsed: syntax.Module, info: ModuleInfo) -> None:
        self.path = path
        self.parsed = parsed
        self.info = info

    @property
    def type(self) -> ModuleType:
        return self.info.type

    def params(self) -> Sequence[Param]:
        return [
            Param(each.name, each.type, each.decl.comment, getattr(each.decl, "expr", None))
            for each in self.info.params
        ]

    def type_with(self, args: Mapping[str, Type]) -> ModuleType:
        return self.info.type_with(args)

    def doc(self, name: str) -> str:
        return self.info.docs.get(name, "")

    def make(self, session: Any, args: Mapping[str, Any]) -> Any:
        raise NotImplementedError


class TextOpener:
    """Opens modules by path from ``texts``; gathers warnings as (pos, text)."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = dict(texts)
        self.warnings: list[tuple[Pos, str]] = []
        self._opened: dict[str, Module] = {}
        self._opening: list[str] = []

    def warn(self, pos: Any, text: str) -> None:
        self.warnings.append((pos, text))

    def open(self, path: str, importer_dir: str) -> Module:
        if path.startswith("$/"):
            system = system_module(path[2:])
            if system is None:
                raise ReflowError(Kind.OTHER, cause=f"no system module named {path[2:]}")
            return system
        return self.load(posixpath.normpath(posixpath.join(importer_dir, path)))

    def load(self, path: str) -> Module:
        """Parse and check a module, once. Raises SourceError, or ReflowError."""
        if path in self._opening:
            raise ReflowError(Kind.OTHER, cause="import cycle")
        if path not in self._opened:
            if path not in self.texts:
                raise ReflowError(Kind.OTHER, cause=f"open {path}: no such file or directory")
            self._opening.append(path)
            try:
                parsed = self.parse(path)
                self._opened[path] = TextModule(path, parsed, self.check(parsed, posixpath.dirname(path)))
            finally:
                self._opening.pop()
        return self._opened[path]

    def parse(self, path: str) -> syntax.Module:
        """Parse a module."""
        return parse_module(Source(path, self.texts[path]))

    def check(self, parsed: syntax.Module, directory: str) -> ModuleInfo:
        """Check a parsed module."""
        return check_module(parsed, self, directory)
