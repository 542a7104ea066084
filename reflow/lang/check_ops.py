"""Rules for operators.

Source: syntax/expr.go, (*Expr).init, ExprBinop and ExprUnop
"""

from __future__ import annotations

from reflow.lang import hints
from reflow.lang.checker import Checker
from reflow.lang.constness import const, swizzled
from reflow.lang.syntax import Binop, Expr, Unop
from reflow.lang.types import (
    BOOL,
    CONST,
    NOT_CONST,
    BasicType,
    ErrorType,
    FieldsType,
    ListType,
    MapType,
    SumType,
    Type,
    equal,
)
from reflow.lang.unify import unify

CONST_BOOL = const(BOOL)

_NUMBERS = frozenset({"int", "float"})
_INTS = frozenset({"int"})
_BOOLS = frozenset({"bool"})
_ORDERED = frozenset({"string", "int", "float"})
_COMPARED = frozenset({"string", "int", "float", "file", "dir", "bool", "bottom"})
_JOINED = frozenset({"list", "map", "dir"})

_ARITHMETIC = {
    "+": _ORDERED,
    "-": _NUMBERS,
    "*": _NUMBERS,
    "/": _NUMBERS,
    "%": _INTS,
    "<<": _INTS,
    ">>": _INTS,
    "&": frozenset[str](),
}
_LOGIC = frozenset({"&&", "||"})
_EQUALITY = frozenset({"==", "!="})


def check_binop(check: Checker, expr: Expr) -> Type:
    """Check a chain of operators from its left end, without recursion along it."""
    chain: list[Binop] = []
    left: Expr = expr
    while type(left) is Binop:
        chain.append(left)
        left = left.left
    found = check.expr(left)
    for each in reversed(chain):
        found = _binop(each.op, found, check.expr(each.right))
        each.type = found
        if found.kind_id == 0:
            check.failed = True
    return found


def _binop(op: str, left: Type, right: Type) -> Type:
    if op == "~>":
        return swizzled(right, NOT_CONST, left)
    if op == "+" and left.kind in _JOINED:
        unified = unify(CONST, [left, right])
        if isinstance(unified, ErrorType):
            unified.hint = hints.operands(op, left, right)
        return unified
    if not equal(left, right):
        text = f'cannot apply binary operator "{op}" to type {left} and {right}'
        return ErrorType(text, hint=hints.operands(op, left, right))
    # The operands of the same basic type have that type for their common one.
    unified = left if left is right and type(left) is BasicType else unify(CONST, [left, right])
    if op in _ARITHMETIC:
        return unified if left.kind in _ARITHMETIC[op] else _not_allowed(op, left)
    if op in _LOGIC:
        return swizzled(CONST_BOOL, CONST, unified) if left.kind in _BOOLS else _not_allowed(op, left)
    allowed = is_comparable(left) if op in _EQUALITY else left.kind in _ORDERED
    return swizzled(CONST_BOOL, CONST, unified) if allowed else _not_comparable(op, left)


def _not_allowed(op: str, type: Type) -> ErrorType:
    shown = op if op == "+" else f'"{op}"'
    return ErrorType(f"binary operator {shown} not allowed for type {type}")


def _not_comparable(op: str, type: Type) -> ErrorType:
    hint = "" if op in _EQUALITY else "only strings, ints and floats have an order"
    return ErrorType(f"cannot compare values of type {type}", hint=hint)


def is_comparable(type: Type) -> bool:
    """Whether values of a type can be compared by ``==``."""
    match type:
        case BasicType():
            return type.kind in _COMPARED
        case ListType() | MapType() | SumType():
            return all(is_comparable(part) for part in type.parts())
        case FieldsType() if type.kind in ("tuple", "struct"):
            return all(is_comparable(part) for part in type.parts())
        case _:
            return False


def check_unop(check: Checker, expr: Expr) -> Type:
    """Check ``!e`` and ``-e``."""
    assert isinstance(expr, Unop)
    operand = check.expr(expr.operand)
    if expr.op == "!":
        if operand.kind in _BOOLS:
            return swizzled(CONST_BOOL, CONST, operand)
        return ErrorType(f'unary operator "!" is only valid for bools, not {operand}')
    if operand.kind in _NUMBERS:
        return operand
    return ErrorType(f'unary operator "-" is only valid for integers and floats, not {operand}')
