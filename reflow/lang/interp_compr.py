"""Evaluation of list comprehensions. Source: syntax/eval.go, evalCompr."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from reflow.core.fileset import path_bytes
from reflow.flow.node import Flow
from reflow.lang import syntax as s
from reflow.lang import types as t
from reflow.lang.digest_expr import clause_material
from reflow.lang.env import Env
from reflow.lang.evaluation import Session, Site, evaluate
from reflow.lang.extent import check_list
from reflow.lang.interp_builtin import concatenate
from reflow.lang.pattern import bind_pattern
from reflow.lang.value import Dir, MapValue, Value


def evaluate_compr(session: Session, env: Env, expr: s.Compr, ident: str) -> Value:
    """The list of the result's values, which may be delayed; it is itself when a source or a filter is."""
    return _clause(session, env, expr, ident, 0)


def _clause(session: Session, env: Env, expr: s.Compr, ident: str, begin: int) -> Value:
    """The list that the clauses from one on give. Filters that say no more than yes are passed in a loop."""
    while True:
        clause = expr.clauses[begin]
        source = evaluate(session, env, clause.expr, ident)
        if isinstance(source, Flow):
            site = Site(session, env, expr, ident)
            return site.wait([source], (clause.expr.type,), partial(_step, begin), _operation(site, begin))
        if isinstance(clause, s.EnumClause):
            return _enumerate(Site(session, env, expr, ident), begin, clause, source)
        if not source:
            return []
        begin += 1
        if begin == len(expr.clauses):
            return [evaluate(session, env, expr.result, ident)]


def _step(begin: int, site: Site, values: list[Value]) -> Value:
    """Go on with a clause whose source was delayed."""
    clause = site.expr.clauses[begin]
    if isinstance(clause, s.EnumClause):
        return _enumerate(site, begin, clause, values[0])
    if not values[0]:
        return []
    if begin + 1 == len(site.expr.clauses):
        return [site.evaluate(site.expr.result)]
    return _clause(site.session, site.env, site.expr, site.ident, begin + 1)


def _operation(site: Site, begin: int) -> Callable[[], bytes]:
    return partial(clause_material, site.expr, site.env, begin)


def _enumerate(site: Site, begin: int, clause: s.EnumClause, source: Value) -> Value:
    session, expr, ident = site.session, site.expr, site.ident
    elements, element_type = _elements(source, clause.expr.type)
    is_last = begin + 1 == len(expr.clauses)
    pattern, push = clause.pattern, site.env.push
    found = []
    count = 0
    for element in elements:
        env = push()
        bind_pattern(env, pattern, element, element_type)
        if is_last:
            found.append(evaluate(session, env, expr.result, ident))
            continue
        inner = _clause(session, env, expr, ident, begin + 1)
        found.append(inner)
        if type(inner) is list:
            count += len(inner)
            check_list(count, expr.pos)
    if is_last:
        return found
    return site.wait(found, [expr.type] * len(found), concatenate, _operation(site, begin))


_PAIR = {"dir": t.tuple_of([t.Field("", t.STRING), t.Field("", t.FILE)])}


def _elements(source: Any, type_: Any) -> tuple[Iterable[Value], t.Type]:
    """What a source enumerates, and the type of each: elements, or pairs of maps and dirs."""
    if isinstance(source, MapValue):
        return source.items(), t.TupleType([t.Field("", type_.key), t.Field("", type_.value)])
    if isinstance(source, Dir):
        return [(path_bytes(path), file) for path, file in source.items()], _PAIR["dir"]
    return source, type_.element
