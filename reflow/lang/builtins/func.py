"""System functions as values of the language."""

from __future__ import annotations

import enum
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.flow.node import Flow, K
from reflow.lang.diagnostic import EvalError, caret_lines
from reflow.lang.digest_value import value_material
from reflow.lang.force import force, to_flow
from reflow.lang.limit import cropped
from reflow.lang.types import FuncType
from reflow.lang.value import CallSite, Value


class Mode(enum.Enum):
    """What a function wants done with its arguments before it runs.

    DEFAULT: each is there (parts of it may be delayed). FORCED: nothing in them is delayed. DIRECT: they
    are passed as they are.
    """

    DEFAULT = enum.auto()
    FORCED = enum.auto()
    DIRECT = enum.auto()


Body = Callable[[list[Value], CallSite], Value]
"""Computes the result; may return a flow. Raises EvalError or ReflowError."""


class Native(NamedTuple):
    """How a declared function is implemented. ``is_flow``: its results are delayed (says its type)."""

    body: Body
    mode: Mode = Mode.DEFAULT
    is_flow: bool = False


class PlacedError(EvalError):
    """An error whose text already holds its place, in the form of system functions: ``POS IDENT: …``."""

    def __init__(self, text: str, site: CallSite) -> None:
        super().__init__(text)
        self._site = site

    def render(self) -> str:
        """The text with the caret lines of the call."""
        return "\n".join([cropped(str(self)), *caret_lines(self._site.pos)])


class SystemFunction:
    """A function that is part of this program. ``module`` is empty for those that need no module."""

    __slots__ = ("_digest", "_native", "module", "name", "type")

    def __init__(self, module: str, name: str, type: FuncType, native: Native) -> None:
        self.module = module
        self.name = name
        self.type = type
        self._native = native
        self._digest: Digest | None = None

    def __repr__(self) -> str:
        return f"$/{self.module}{self.name}"

    @property
    def digest(self) -> Digest:
        """Digest of its name."""
        if self._digest is None:
            self._digest = Digest.of_text(f"$/{self.module}{self.name}")
        return self._digest

    def apply(self, args: list[Value], site: CallSite) -> Value:
        """Run it now, or return a continuation that runs it when the delayed arguments are there.

        Source: syntax/stdlib.go, SystemFunc.Apply.
        """
        body, mode, _ = self._native
        if mode is Mode.DIRECT:
            return body(list(args), site)
        if mode is Mode.FORCED:
            args = [force(arg, field.type) for arg, field in zip(args, self.type.fields, strict=True)]
        delayed = [index for index, arg in enumerate(args) if isinstance(arg, Flow)]
        if not delayed:
            return body(list(args), site)
        return self._continuation(args, delayed, site)

    def _continuation(self, args: list[Value], delayed: list[int], site: CallSite) -> Flow:
        body, result = self._native.body, self.type.result

        def resume(values: list[Any]) -> Flow:
            complete = list(args)
            for index, value in zip(delayed, values, strict=True):
                complete[index] = value
            return to_flow(body(complete, site), result)

        def tag() -> Digest:
            hasher = sha256()
            for arg, field in zip(args, self.type.fields, strict=True):
                if not isinstance(arg, Flow):
                    hasher.update(value_material(arg, field.type))
            hasher.update(self.digest.wire)
            return Digest(hasher.digest())

        deps = [args[index] for index in delayed]
        return K(resume, deps, tag, ident=site.ident, pos=site.pos)
