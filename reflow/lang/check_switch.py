"""The rule for ``switch``: patterns fit, results have one type in common, and every value has a case.

Source: syntax/expr.go, (*Expr).init, ExprSwitch; syntax/switch.go, checkCases
"""

from __future__ import annotations

from collections.abc import Sequence

from reflow.lang.case_space import Effort, Space, TooMuchEffortError, is_met, space_of, space_text, without
from reflow.lang.checker import Checker, error_text
from reflow.lang.constness import swizzled
from reflow.lang.diagnostic import Diagnostic
from reflow.lang.pretty import pattern_text
from reflow.lang.source import Pos
from reflow.lang.syntax import Case, Expr, Switch
from reflow.lang.tenv import Symbol, Use
from reflow.lang.types import CAN_CONST, NOT_CONST, ErrorType, Type
from reflow.lang.unify import unify


def check_switch(check: Checker, expr: Expr) -> Type:
    """Check the scrutinee, then the cases in order, each in a scope of its own."""
    assert isinstance(expr, Switch)
    scrutinee = check.expr(expr.scrutinee)
    scopes: list[list[Symbol]] = []
    found = _check_cases(check, expr, scrutinee, scopes)
    for symbols in reversed(scopes):
        check.warn_unused(symbols)
    return found


def _check_cases(check: Checker, expr: Switch, scrutinee: Type, scopes: list[list[Symbol]]) -> Type:
    types = []
    for case in expr.cases:
        check.env.push()
        wrong = check.bind(case.pattern, scrutinee, Use.ALWAYS)
        if wrong is None:
            types.append(check.expr(case.expr))
        scopes.append(check.env.pop())
        if wrong is not None:
            text = f"pattern {pattern_text(case.pattern)} is incompatible with type {scrutinee}"
            return ErrorType(text, hint=wrong.message)
    errors = case_errors(scrutinee, expr.pos, expr.cases, check.effort)
    if errors:
        return ErrorType(error_text(errors), cause=errors)
    return swizzled(unify(CAN_CONST, types), NOT_CONST, scrutinee)


def case_errors(type: Type, pos: Pos, cases: Sequence[Case], effort: Effort) -> list[Diagnostic]:
    """What is wrong with the cases as a whole: values that none matches, cases that match nothing."""
    unreachable = []
    unhandled: list[Space] = [None]
    try:
        for case in cases:
            if not is_met(unhandled, space_of(case.pattern), effort):
                hint = "the cases above match all that it would"
                text = f"case is unreachable: {pattern_text(case.pattern)}"
                unreachable.append(Diagnostic(case.pos, text, hint))
            unhandled = without(unhandled, case.pattern, type, effort)
    except TooMuchEffortError:
        hint = "match some parts in a switch of their own"
        return [Diagnostic(pos, "case patterns are too many to be looked through", hint)]
    if not unhandled:
        return unreachable
    hint = f"not matched: {space_text(unhandled[0], type)}"
    return [Diagnostic(pos, "case patterns are not exhaustive", hint), *unreachable]
