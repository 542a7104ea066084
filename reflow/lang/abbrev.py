"""Expressions in short, as documentation and the display of execs show them.

Source: syntax/expr.go, (*Expr).Abbrev.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from reflow.lang import syntax as s
from reflow.lang.pretty import pattern_text
from reflow.lang.print_value import show

_PRECEDENCE = {
    op: level
    for level, ops in enumerate(("||", "&&", "< > <= >= != ==", "+ -", "* / % & << >>"), 1)
    for op in ops.split()
}


def abbrev(expr: s.Expr) -> str:
    """The expression on one line; functions, execs and the like as their kind in angle brackets."""
    return _TEXTS[type(expr)](expr)


def _list(exprs: Iterable[s.Expr]) -> str:
    return ", ".join([abbrev(each) for each in exprs])


def _binop(expr: s.Binop) -> str:
    """Only the right side gets parentheses, and not always where it needs them."""
    right = abbrev(expr.right)
    own = _PRECEDENCE.get(expr.op, 0)
    inner = _PRECEDENCE.get(expr.right.op, 0) if isinstance(expr.right, s.Binop) else 0
    if own and inner and inner <= own:
        right = f"({right})"
    return f"{abbrev(expr.left)} {expr.op} {right}"


def _struct(expr: s.Struct) -> str:
    """The closing parenthesis is the original's; the display of execs has it too."""
    return "{" + ", ".join([f"{name}:{abbrev(each)}" for name, each in expr.fields]) + ")"


def _map(expr: s.MapExpr) -> str:
    return "[" + ", ".join([f"{abbrev(key)}: {abbrev(each)}" for key, each in expr.entries]) + "]"


def _variant(expr: s.VariantExpr) -> str:
    return f"#{expr.tag}" if expr.element is None else f"#{expr.tag}({abbrev(expr.element)})"


def _cond(expr: s.Cond) -> str:
    return f"if {abbrev(expr.test)} {{ {abbrev(expr.then)} }} else {{ {abbrev(expr.orelse)} }}"


def _switch(expr: s.Switch) -> str:
    cases = " ".join([f"case {pattern_text(case.pattern)}: {abbrev(case.expr)}" for case in expr.cases])
    return f"switch {abbrev(expr.scrutinee)} {{ {cases} }}"


def _kind(text: str) -> Callable[[Any], str]:
    return lambda _: text


_TEXTS: dict[type[s.Expr], Callable[[Any], str]] = {
    s.Ident: lambda expr: expr.name,
    s.Literal: lambda expr: show(expr.value, expr.type),
    s.Binop: _binop,
    s.Unop: lambda expr: expr.op + abbrev(expr.operand),
    s.Apply: lambda expr: f"{abbrev(expr.callee)}({_list(expr.args)})",
    s.Builtin: lambda expr: f"{expr.op}({_list(expr.args)})",
    s.Ascribe: lambda expr: abbrev(expr.expr),
    s.Block: lambda expr: f"{{...; {abbrev(expr.result)}}}",
    s.Func: _kind("<func>"),
    s.Tuple: lambda expr: f"({_list(expr.items)})",
    s.Struct: _struct,
    s.ListExpr: lambda expr: f"[{_list(expr.items)}]",
    s.MapExpr: _map,
    s.VariantExpr: _variant,
    s.ExecExpr: _kind("<exec>"),
    s.Cond: _cond,
    s.Switch: _switch,
    s.Deref: lambda expr: f"{abbrev(expr.expr)}.{expr.name}",
    s.Index: lambda expr: f"{abbrev(expr.expr)}[{abbrev(expr.index)}]",
    s.Compr: _kind("<compr>"),
    s.Make: _kind("<make>"),
    s.RequiresExpr: _kind("<requires>"),
}
