"""Evaluation of names, operators, calls, literals, blocks and branches. Source: syntax/eval.go."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from reflow.core.digest import Digest
from reflow.flow.digest import digest as flow_digest
from reflow.flow.node import Flow, K, Val, label
from reflow.lang import number
from reflow.lang import syntax as s
from reflow.lang import types as t
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_expr import sorted_entries
from reflow.lang.digest_value import value_digest
from reflow.lang.env import Env
from reflow.lang.evaluation import Closure, Session, Site, decl_ident, evaluate, raise_at
from reflow.lang.extent import check_list, check_string
from reflow.lang.force import force
from reflow.lang.interp_builtin import evaluate_builtin
from reflow.lang.interp_equal import compare
from reflow.lang.pattern import bind_pattern, parts
from reflow.lang.print_value import show
from reflow.lang.value import CallSite, Dir, MapValue, Struct, Value, Variant

SEQUENCE_TAG = Digest.of_text("grail.com/reflow/syntax.Eval.~>")


def evaluate_ident(_session: Session, env: Env, expr: s.Ident, _ident: str) -> Value:
    """The bound value; a bound exception (a parameter that is not known yet) is raised."""
    value = env.value(expr.name)
    if isinstance(value, Exception):
        raise value
    return value


def evaluate_literal(_session: Session, _env: Env, expr: s.Literal, _ident: str) -> Value:
    """The constant."""
    return expr.value


def evaluate_ascribe(session: Session, env: Env, expr: s.Ascribe, ident: str) -> Value:
    """The expression; fields that the stated type lacks stay."""
    return evaluate(session, env, expr.expr, ident)


# --------------------------------------------------------------------------------------- operators


def evaluate_binop(session: Session, env: Env, expr: s.Binop, ident: str) -> Value:
    """Left operands first, down a chain of operators without recursion."""
    chain = [expr]
    left = expr.left
    while type(left) is s.Binop:
        chain.append(left)
        left = left.left
    value = evaluate(session, env, left, ident)
    while True:
        node = chain.pop()
        value = _OPERATORS[node.op](session, env, node, ident, value)
        if not chain:
            return value
        if isinstance(value, Flow):
            label(value, ident)


def _sequence(session: Session, env: Env, expr: s.Binop, ident: str, left: Value) -> Value:
    """``left ~> right``: both are evaluated now, but the right one's value waits for the left one's."""
    left = force(left, expr.left.type)
    right = evaluate(session, env, expr.right, ident)
    if not isinstance(left, Flow):
        return right
    tag = partial(_sequence_tag, right) if isinstance(right, Flow) else SEQUENCE_TAG
    return K(partial(_sequence_step, right, expr.right.type), (left,), tag)


def _sequence_tag(right: Flow) -> Digest:
    return SEQUENCE_TAG.mix(flow_digest(right))


def _sequence_step(right: Value, type_: t.Type, _awaited: list[Value]) -> Flow:
    return right if isinstance(right, Flow) else Val(right, partial(value_digest, right, type_))


def _and(session: Session, env: Env, expr: s.Binop, ident: str, left: Value) -> Value:
    if isinstance(left, Flow):
        return Site(session, env, expr, ident).delay([left], (expr.left.type,), _and_step)
    return left and evaluate(session, env, expr.right, ident)


def _and_step(site: Site, values: list[Value]) -> Value:
    return values[0] and site.evaluate(site.expr.right)


def _or(session: Session, env: Env, expr: s.Binop, ident: str, left: Value) -> Value:
    if isinstance(left, Flow):
        return Site(session, env, expr, ident).delay([left], (expr.left.type,), _or_step)
    return left or evaluate(session, env, expr.right, ident)


def _or_step(site: Site, values: list[Value]) -> Value:
    return values[0] or site.evaluate(site.expr.right)


_COMPARED_DEEPLY = frozenset({"list", "map", "tuple", "struct", "sum", "dir", "file"})


def _equality(session: Session, env: Env, expr: s.Binop, ident: str, left: Value) -> Value:
    if expr.left.type.kind not in _COMPARED_DEEPLY:
        return _strict(session, env, expr, ident, left)
    right = evaluate(session, env, expr.right, ident)
    return compare(Site(session, env, expr, ident), left, right)


def _strict(session: Session, env: Env, expr: s.Binop, ident: str, left: Value) -> Value:
    right = evaluate(session, env, expr.right, ident)
    if isinstance(left, Flow) or isinstance(right, Flow):
        types = (expr.left.type, expr.right.type)
        return Site(session, env, expr, ident).delay([left, right], types, _strict_step)
    return apply_operator(expr, left, right)


def _strict_step(site: Site, values: list[Value]) -> Value:
    return apply_operator(site.expr, values[0], values[1])


def apply_operator(expr: s.Binop, left: Value, right: Value) -> Value:
    """The value of an operator on immediate operands."""
    op = expr.op
    compared = _COMPARISONS.get(op)
    if compared is not None:
        return compared(left, right)
    kind = expr.left.type.kind
    try:
        if kind == "int":
            return number.INT_OPS[op](left, right)
        if kind == "float":
            return number.float_operation(op, left, right)
    except number.NumberError as error:
        raise_at(expr.pos, error)
    return _sum(expr, left, right)


def _sum(expr: s.Binop, left: Any, right: Any) -> Value:
    """Strings and lists joined; of maps and dirs the right one wins."""
    kind = expr.left.type.kind
    if kind == "map":
        return MapValue([*left.entries(), *right.entries()])
    if kind == "dir":
        return Dir({**left.files, **right.files})
    check_size = check_string if kind == "string" else check_list
    check_size(len(left) + len(right), expr.pos)
    return left + right


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}

_OPERATORS: dict[str, Callable[[Session, Env, s.Binop, str, Value], Value]] = {
    "~>": _sequence,
    "&&": _and,
    "||": _or,
    "==": _equality,
    "!=": _equality,
    **dict.fromkeys(("<", ">", "<=", ">=", "+", "-", "*", "/", "%", "<<", ">>"), _strict),
}


def evaluate_unop(session: Session, env: Env, expr: s.Unop, ident: str) -> Value:
    """``!e`` and ``-e``."""
    operand = evaluate(session, env, expr.operand, ident)
    if isinstance(operand, Flow):
        return Site(session, env, expr, ident).delay([operand], (expr.operand.type,), _unop_step)
    return _apply_unop(expr, operand)


def _unop_step(site: Site, values: list[Value]) -> Value:
    return _apply_unop(site.expr, values[0])


def _apply_unop(expr: s.Unop, operand: Any) -> Value:
    if expr.op == "!":
        return not operand
    return -operand if isinstance(operand, int) else number.negate(operand)


# ------------------------------------------------------------------------------ functions and blocks


def evaluate_func(session: Session, env: Env, expr: s.Func, ident: str) -> Value:
    """A closure."""
    return Closure(session, env, expr, ident)


def evaluate_apply(session: Session, env: Env, expr: s.Apply, ident: str) -> Value:
    """Awaits the callee only."""
    if expr.builtin is not None:
        return evaluate_builtin(session, env, expr, ident)
    callee = evaluate(session, env, expr.callee, ident)
    if isinstance(callee, Flow):
        return Site(session, env, expr, ident).delay([callee], (expr.callee.type,), _apply_step)
    return _call(session, env, expr, ident, callee)


def _apply_step(site: Site, values: list[Value]) -> Value:
    return _call(site.session, site.env, site.expr, site.ident, values[0])


def _call(session: Session, env: Env, expr: s.Apply, ident: str, callee: Any) -> Value:
    args = [evaluate(session, env, arg, ident) for arg in expr.args]
    if type(callee) is Closure:
        return callee.apply(args)
    return callee.apply(args, CallSite(session, expr.pos, ident))


def evaluate_block(session: Session, env: Env, expr: s.Block, ident: str) -> Value:
    """Declarations in order, each with a frame before it and one for its names."""
    if expr.decls:
        env = env.push()
        first = True
        for decl in expr.decls:
            if not isinstance(decl, s.Assign):
                continue
            if not first:
                env = env.extend()
            first = False
            value = evaluate(session, env, decl.expr, decl_ident(decl, ident))
            env = env.extend()
            bind_pattern(env, decl.pattern, value, decl.expr.type)
    return evaluate(session, env, expr.result, ident)


def evaluate_make(session: Session, env: Env, expr: s.Make, ident: str) -> Value:
    """An instance of the module, made now."""
    args: dict[str, Value] = {}
    for decl in expr.decls:
        assert isinstance(decl, s.Assign), "arguments of make are assignments"
        value = evaluate(session, env, decl.expr, decl_ident(decl, ident))
        args.update(parts(decl.pattern, value, decl.expr.type))
    return expr.module.make(session, args)


# --------------------------------------------------------------------------------------- containers


def evaluate_tuple(session: Session, env: Env, expr: s.Tuple, ident: str) -> Value:
    """Members stay delayed."""
    return tuple([evaluate(session, env, item, ident) for item in expr.items])


def evaluate_list(session: Session, env: Env, expr: s.ListExpr, ident: str) -> Value:
    """Members stay delayed."""
    return [evaluate(session, env, item, ident) for item in expr.items]


def evaluate_struct(session: Session, env: Env, expr: s.Struct, ident: str) -> Value:
    """Members stay delayed."""
    return Struct([(name, evaluate(session, env, each, ident)) for name, each in expr.fields])


def evaluate_variant(session: Session, env: Env, expr: s.VariantExpr, ident: str) -> Value:
    """The element stays delayed."""
    if expr.element is None:
        return Variant(expr.tag)
    return Variant(expr.tag, evaluate(session, env, expr.element, ident), has_element=True)


def evaluate_map(session: Session, env: Env, expr: s.MapExpr, ident: str) -> Value:
    """Keys are awaited, values stay delayed. Of equal keys the one wins whose expression's digest is last."""
    site = Site(session, env, expr, ident)
    entries = sorted_entries(expr, env)
    keys = [evaluate(session, env, key, ident) for key, _ in entries]
    return site.wait(
        keys, [key.type for key, _ in entries], partial(_map_step, [each for _, each in entries])
    )


def _map_step(exprs: list[s.Expr], site: Site, keys: list[Value]) -> Value:
    key_type = site.expr.type.key
    values = [
        (value_digest(key, key_type), key, site.evaluate(each)) for key, each in zip(keys, exprs, strict=True)
    ]
    return MapValue(values)


def evaluate_deref(session: Session, env: Env, expr: s.Deref, ident: str) -> Value:
    """A field, which may be delayed."""
    struct = evaluate(session, env, expr.expr, ident)
    if isinstance(struct, Flow):
        return Site(session, env, expr, ident).delay([struct], (expr.expr.type,), _deref_step)
    return _field(expr, struct)


def _deref_step(site: Site, values: list[Value]) -> Value:
    return _field(site.expr, values[0])


def _field(expr: s.Deref, struct: Struct) -> Value:
    try:
        return struct[expr.name]
    except KeyError:
        raise EvalError(f"the value has no field {expr.name}", expr.pos) from None


def evaluate_index(session: Session, env: Env, expr: s.Index, ident: str) -> Value:
    """An element of a list or a map, which may be delayed."""
    container = evaluate(session, env, expr.expr, ident)
    index = evaluate(session, env, expr.index, ident)
    if isinstance(container, Flow) or isinstance(index, Flow):
        types = (expr.expr.type, expr.index.type)
        return Site(session, env, expr, ident).delay([container, index], types, _index_step)
    return _element(expr, container, index)


def _index_step(site: Site, values: list[Value]) -> Value:
    return _element(site.expr, values[0], values[1])


def _element(expr: s.Index, container: Any, index: Any) -> Value:
    type_ = expr.expr.type
    if isinstance(type_, t.MapType):
        entry = container.get(value_digest(index, type_.key))
        if entry is None:
            raise EvalError(f"key {show(index, expr.index.type)} not found", expr.pos)
        return entry[1]
    at = number.index_64(index)
    if not 0 <= at < len(container):
        raise EvalError(f"index {at} out of bounds for list of size {len(container)}", expr.pos)
    return container[at]


def evaluate_cond(session: Session, env: Env, expr: s.Cond, ident: str) -> Value:
    """Only the chosen branch is evaluated."""
    test = evaluate(session, env, expr.test, ident)
    if isinstance(test, Flow):
        return Site(session, env, expr, ident).delay([test], (expr.test.type,), _cond_step)
    return evaluate(session, env, expr.then if test else expr.orelse, ident)


def _cond_step(site: Site, values: list[Value]) -> Value:
    return site.evaluate(site.expr.then if values[0] else site.expr.orelse)
