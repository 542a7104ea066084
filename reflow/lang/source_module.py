"""Modules written in the language: a checked tree, and the values injected into its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reflow.core.errors import Kind, ReflowError
from reflow.core.flagset import FlagError
from reflow.flow.node import Flow
from reflow.lang.env import Env, base_env
from reflow.lang.flags import (
    KINDS,
    DependsOnParamError,
    ModuleFlags,
    ParamFlag,
    UsageError,
    unsupported_text,
    value_text,
)
from reflow.lang.interp import evaluate, instantiate
from reflow.lang.module import Module, Param
from reflow.lang.module_info import CheckedParam, ModuleInfo
from reflow.lang.source import NO_POS
from reflow.lang.syntax import Apply, Assign, Expr, Ident, Literal
from reflow.lang.syntax import Module as Tree
from reflow.lang.types import STRING, ModuleType, Type
from reflow.lang.unify import equal
from reflow.lang.value import Struct, Value

Checked = tuple[Tree, ModuleInfo]


class SourceModule:
    """A module from a source text.

    ``load`` gives the checked tree, when it is needed. ``prefix`` begins the names of what it computes
    (``main``); the entry of a bundle has none. Injected values stand behind what the module is made with:
    they replace defaults.
    """

    def __init__(self, path: str, load: Callable[[], Checked], prefix: str = "") -> None:
        self.path = path
        self._load = load
        self.prefix = prefix
        self.injected_args: Sequence[str] | None = None
        self._injected: dict[str, Value] = {}
        self._injected_texts: dict[str, str] = {}

    @cached_property
    def _checked(self) -> Checked:
        return self._load()

    @property
    def tree(self) -> Tree:
        """The checked tree."""
        return self._checked[0]

    @property
    def info(self) -> ModuleInfo:
        """What the check found out."""
        return self._checked[1]

    @property
    def type(self) -> ModuleType:
        """What it exports when every parameter keeps its default."""
        return self.info.type

    def type_with(self, args: Mapping[str, Type]) -> ModuleType:
        """What it exports when made with arguments of these types."""
        return self.info.type_with(args)

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        """Names exported more than once, at different types: the module's type has the first."""
        fields = self.info.type.fields
        first = {field.name: field.type for field in reversed(fields)}
        return frozenset([each.name for each in fields if not equal(each.type, first[each.name])])

    def doc(self, name: str) -> str:
        """The comment of an exported value or alias."""
        return self.info.docs.get(name, "")

    def params(self) -> Sequence[Param]:
        """Parameters; those with an injected value have that as their default."""
        params = self.info.params
        return [Param(each.name, each.type, each.decl.comment, self._default(each)) for each in params]

    def _default(self, param: CheckedParam) -> Expr | None:
        if param.name in self._injected:
            return _as_expression(param.type, self._injected[param.name], self._injected_texts[param.name])
        return param.decl.expr if isinstance(param.decl, Assign) else None

    def make(self, session: Any, args: Mapping[str, Value]) -> Struct:
        """Instantiate it."""
        injected = self._injected if self.injected_args is not None else None
        return instantiate(self.tree, session, args, injected, self.prefix, self._ambiguous)

    def inject(self, session: Any, words: Sequence[str]) -> None:
        """Read flags, and keep the values of all flags that have one.

        Raises UsageError. Repeated calls add to what was injected before.
        """
        flags = self.flags(session)
        try:
            flags.parse(words)
        except FlagError as err:
            raise UsageError(str(err), f"Usage:\n{flags.usage()}") from err
        self.injected_args = list(words)
        self._injected.update(flags.values())
        self._injected_texts.update(flags.texts())

    def flags(self, session: Any) -> ModuleFlags:
        """Its parameters as flags; evaluates defaults.

        Raises ReflowError when a parameter that must be given cannot be a flag, EvalError from a default.
        """
        env = base_env().push()
        flags = [flag for each in self.info.params if (flag := self._flag(each, env, session))]
        return ModuleFlags(flags)

    def _flag(self, param: CheckedParam, env: Env, session: Any) -> ParamFlag | None:
        """The flag of a parameter, or None; binds the parameter to the mark of what is not known yet."""
        if isinstance(param.decl, Assign):
            flag = self._optional_flag(param, param.decl, env, session)
        else:
            flag = self._mandatory_flag(param, session)
        env.bind(param.name, DependsOnParamError())
        return flag

    def _mandatory_flag(self, param: CheckedParam, session: Any) -> ParamFlag:
        name, type = param.name, param.type
        if type.kind not in KINDS:
            raise ReflowError(Kind.OTHER, cause=unsupported_text(name, type))
        usage = " ".join(param.decl.comment.strip().split("\n"))
        usage += " " if usage else ""
        if name not in self._injected and type.kind != "bool":
            usage += "(required)"
        flag = ParamFlag(name, type, usage, session, is_mandatory=True)
        if name in self._injected:
            flag.preset(self._injected[name], self._injected_texts[name])
        return flag

    def _optional_flag(self, param: CheckedParam, decl: Assign, env: Env, session: Any) -> ParamFlag | None:
        flag = ParamFlag(param.name, param.type, decl.comment, session, is_mandatory=False)
        try:
            value = evaluate(session, env, decl.expr, param.name)
        except DependsOnParamError:
            return flag
        if isinstance(value, Flow):
            return flag
        if flag.kind not in KINDS:
            return None
        if param.name in self._injected:
            value = self._injected[param.name]
        flag.preset(*_as_flag_value(flag, value))
        return flag


def _as_flag_value(flag: ParamFlag, value: Value) -> tuple[Value, str]:
    """A default as it comes out of its flag: a float has the ten digits that are shown."""
    text = value_text(flag.kind, value)
    if flag.kind == "float":
        flag.assign(text)
        return flag.value, text
    return value, text


def _as_expression(type: Type, value: Value, text: str) -> Expr:
    """An injected value as the expression of a default."""
    if type.kind not in ("file", "dir"):
        return _typed(Literal(NO_POS, type.kind, value), type)
    url = _typed(Literal(NO_POS, "string", text.encode("utf-8", "surrogateescape")), STRING)
    return _typed(Apply(NO_POS, Ident(NO_POS, type.kind), (url,)), type)


def _typed(expr: Expr, type: Type) -> Expr:
    expr.type = type
    return expr


if TYPE_CHECKING:
    _: type[Module] = SourceModule
