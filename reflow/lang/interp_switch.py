"""Evaluation of switches: cases in order, their matchers in order, each step awaiting just its value.

Source: syntax/switch.go, switcher.
"""

from __future__ import annotations

from functools import partial

from reflow.flow.node import Flow
from reflow.lang import syntax as s
from reflow.lang.digest_expr import ABSENT_DIGEST, cases_material
from reflow.lang.digest_value import value_material
from reflow.lang.env import Env
from reflow.lang.evaluation import Session, Site, evaluate
from reflow.lang.pattern import Path, matchers, path_material
from reflow.lang.types import Type
from reflow.lang.value import Value

Bound = tuple[tuple[str, Value], ...]


def evaluate_switch(session: Session, env: Env, expr: s.Switch, ident: str) -> Value:
    """The chosen case's value. Leaves are awaited too, also those that bind nothing."""
    value = evaluate(session, env, expr.scrutinee, ident)
    return _Switch(Site(session, env, expr, ident), value).cases(0)


class _Switch:
    """A switch and the value that is switched on."""

    __slots__ = ("_site", "_type", "_value")

    def __init__(self, site: Site, value: Value) -> None:
        self._site = site
        self._value = value
        self._type: Type = site.expr.scrutinee.type

    def cases(self, number: int) -> Value:
        """Try the cases from one on."""
        for index in range(number, len(self._site.expr.cases)):
            result = self._matchers(index, 0, ())
            if result is not _NO_MATCH:
                return result
        raise AssertionError("no case clause matched; inexhaustive switch")

    def _matchers(self, number: int, begin: int, bound: Bound) -> Value:
        """Try the matchers of a case from one on: the case's value, a node, or `_NO_MATCH`."""
        leaves = matchers(self._site.expr.cases[number].pattern)
        for index in range(begin, len(leaves)):
            found = self._walk(number, index, bound, (self._value, self._type, leaves[index].path))
            if found is _NO_MATCH or isinstance(found, Flow):
                return found
            bound = _bind(leaves[index].name, bound, found[0])
        return self._choose(number, bound)

    def _choose(self, number: int, bound: Bound) -> Value:
        site = self._site
        env = site.env.push()
        for name, value in bound:
            env.bind(name, value)
        return evaluate(site.session, env, site.expr.cases[number].expr, site.ident)

    def _walk(self, number: int, index: int, bound: Bound, at: tuple[Value, Type, Path]) -> Value:
        """Walk a matcher's path: the leaf's value in a tuple, a node, or `_NO_MATCH`."""
        value, type_, path = at
        for step_index, step in enumerate(path):
            if isinstance(value, Flow):
                rest = path[step_index:]
                go_on = partial(self._go_on, number, index, bound, type_, rest)
                op = partial(self._operation, number, rest)
                return self._site.wait([value], (type_,), go_on, op)
            taken = step.take(step, value, type_)
            if taken is None:
                return _NO_MATCH
            value, type_ = taken
        return (value,)

    def _go_on(
        self, number: int, index: int, bound: Bound, type_: Type, path: Path, _site: Site, values: list[Value]
    ) -> Value:
        """Go on with a step whose value was delayed."""
        taken = path[0].take(path[0], values[0], type_)
        if taken is None:
            return self.cases(number + 1)
        found = self._walk(number, index, bound, (*taken, path[1:]))
        if isinstance(found, Flow):
            return found
        if found is not _NO_MATCH:
            name = matchers(self._site.expr.cases[number].pattern)[index].name
            found = self._matchers(number, index + 1, _bind(name, bound, found[0]))
        return self.cases(number + 1) if found is _NO_MATCH else found

    def _operation(self, number: int, path: Path) -> bytes:
        site = self._site
        whole = value_material(self._value, self._type)
        rest = cases_material(site.expr.cases[number:], site.env)
        return ABSENT_DIGEST + whole + path_material(path) + rest


def _bind(name: str, bound: Bound, value: Value) -> Bound:
    return (*bound, (name, value)) if name else bound


_NO_MATCH = object()
