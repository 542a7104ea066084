"""Expressions of the language in tests: checked, evaluated, and their delayed parts worked off."""

from __future__ import annotations

from typing import Any

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.flow.data import LocalFile
from reflow.flow.node import Coerce, Data, Exec, Flow, Intern, K, Requires, Val
from reflow.lang.builtins.registry import system_module
from reflow.lang.check import check_expr_standalone
from reflow.lang.env import base_env
from reflow.lang.force import force
from reflow.lang.interp import evaluate
from reflow.lang.module import Module
from reflow.lang.parse import parse_expr
from reflow.lang.print_value import show
from reflow.lang.source import Source
from reflow.lang.syntax import Expr
from reflow.lang.types import Type


class TracingSession:
    """A session that remembers what it is told; it has no local files."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.lines: list[str] = []

    def see_image(self, image: str) -> None:
        self.images.append(image)

    def trace(self, line: str) -> None:
        self.lines.append(line)

    def local_file(self, path: str) -> LocalFile:
        raise FileNotFoundError(path)


class SystemModules:
    """Opens system modules, and no others."""

    def open(self, path: str, importer_dir: str) -> Module:
        module = system_module(path.removeprefix("$/"))
        assert module is not None, path
        return module

    def warn(self, pos: Any, text: str) -> None:
        """Warnings are not looked at."""


def checked(text: str) -> tuple[Expr, Type]:
    """Parse and check an expression."""
    expr = parse_expr(Source("", text))
    return expr, check_expr_standalone(expr, SystemModules())


def evaluated(text: str, session: TracingSession | None = None, ident: str = "") -> Any:
    """The value of an expression, delayed where it is."""
    expr, _ = checked(text)
    return evaluate(session or TracingSession(), base_env(), expr, ident)


def settled(text: str, session: TracingSession | None = None) -> str:
    """The value of an expression as text, when everything delayed is worked off."""
    expr, type_ = checked(text)
    value = force(evaluate(session or TracingSession(), base_env(), expr, ""), type_)
    return show(work_off(value), type_)


def work_off(value: Any) -> Any:
    """What a flow comes to. A made-up file stands at a URL, and in each output of an exec."""
    while isinstance(value, Flow):
        match value:
            case Val():
                assert value.error is None, value.error
                return value.value
            case K():
                value = value.fn([work_off(dep) for dep in value.deps])
            case Coerce():
                return value.fn(work_off(value.deps[0]))
            case Requires():
                value = value.deps[0]
            case Data(content=bytes() as content):
                return Fileset.of_file(File(Digest.of(content), len(content)))
            case Intern():
                return Fileset.of_file(File(Digest.of_text(value.url), len(value.url)))
            case Exec():
                names = ["file" if not is_dir else "dir/a" for is_dir in value.output_is_dir]
                files = [File(Digest.of_text(name), len(name)) for name in names]
                return Fileset(members=[Fileset({"." if file.size == 4 else "a": file}) for file in files])
            case _:
                raise AssertionError(f"no made-up value for {value.op}")
    return value
