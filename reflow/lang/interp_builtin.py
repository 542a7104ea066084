"""Evaluation of builtins. Source: syntax/eval.go, the cases of ExprBuiltin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, path_bytes
from reflow.lang import number
from reflow.lang import syntax as s
from reflow.lang import types as t
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_value import value_digest
from reflow.lang.env import Env
from reflow.lang.evaluation import Session, Site, evaluate
from reflow.lang.extent import check_list
from reflow.lang.force import force
from reflow.lang.limit import MAX_LIST
from reflow.lang.print_value import show
from reflow.lang.value import CallSite, Dir, MapValue, Value


def evaluate_builtin(session: Session, env: Env, expr: s.Apply | s.Builtin, ident: str) -> Value:
    """The value of a builtin's call. All of its arguments are awaited; that of ``trace`` is forced."""
    name = _name(expr)
    run, count = BUILTINS[name]
    args = expr.args[:count]
    values = [evaluate(session, env, arg, ident) for arg in args]
    site = Site(session, env, expr, ident)
    types = [arg.type for arg in args]
    if name == "delay":
        return site.delay(values, types, run)
    if name == "trace":
        values = [force(values[0], types[0])]
    return site.wait(values, types, run)


def _name(expr: s.Apply | s.Builtin) -> str:
    if isinstance(expr, s.Builtin):
        return expr.op
    assert expr.builtin is not None, "the call of a builtin"
    return expr.builtin


def _arg_type(site: Site) -> Any:
    """Type of the first argument."""
    return site.expr.args[0].type


# ------------------------------------------------------------------------------------------- numbers


def _len(_site: Site, values: list[Value]) -> Value:
    value = values[0]
    return value.size if isinstance(value, File) else len(value)


def _int(_site: Site, values: list[Value]) -> Value:
    return number.to_int(values[0])


def _float(_site: Site, values: list[Value]) -> Value:
    return number.from_int(values[0])


def _range(site: Site, values: list[Value]) -> Value:
    begin, end = values
    if begin > end:
        raise EvalError("invalid range")
    if end - begin > MAX_LIST:
        raise EvalError(f"range of {end - begin} numbers is too long, the limit is {MAX_LIST}", site.expr.pos)
    return list(range(begin, end))


# --------------------------------------------------------------------------------------------- lists


def _zip(site: Site, values: list[Value]) -> Value:
    left, right = values
    if len(left) != len(right):
        raise EvalError(f"list sizes do not match: {len(left)} vs {len(right)}", site.expr.pos)
    return list(zip(left, right, strict=True))


def _unzip(site: Site, values: list[Value]) -> Value:
    return site.wait(values[0], [_arg_type(site).element] * len(values[0]), _unzip_step)


def _unzip_step(_site: Site, tuples: list[Value]) -> Value:
    return [each[0] for each in tuples], [each[1] for each in tuples]


def _flatten(site: Site, values: list[Value]) -> Value:
    return site.wait(values[0], [t.list_of(site.expr.type.element)] * len(values[0]), concatenate)


def concatenate(site: Site, lists: list[Value]) -> Value:
    """All elements of some lists."""
    check_list(sum(map(len, lists)), site.expr.pos)
    return list(chain.from_iterable(lists))


def _reduce(site: Site, values: list[Value]) -> Value:
    function, elements = values
    if not elements:
        raise EvalError("cannot reduce empty list", site.expr.pos)
    return _accumulate(site, function, elements[0], elements[1:])


def _fold(site: Site, values: list[Value]) -> Value:
    function, elements, start = values
    return _accumulate(site, function, start, elements)


def _accumulate(site: Site, function: Any, value: Value, elements: Sequence[Value]) -> Value:
    call = CallSite(site.session, site.expr.pos, "")
    for element in elements:
        value = function.apply([value, element], call)
    return value


# --------------------------------------------------------------------------------------- conversions


def _list(_site: Site, values: list[Value]) -> Value:
    value = values[0]
    return _dir_pairs(value) if isinstance(value, Dir) else list(value.items())


def _dir_pairs(value: Dir) -> list[tuple[bytes, File]]:
    return [(path_bytes(path), file) for path, file in value.items()]


def _map(site: Site, values: list[Value]) -> Value:
    value = values[0]
    if isinstance(value, Dir):
        return MapValue([(value_digest(path, t.STRING), path, file) for path, file in _dir_pairs(value)])
    return site.wait(value, [_arg_type(site).element] * len(value), _map_tuples)


def _map_tuples(site: Site, tuples: list[Value]) -> Value:
    key_type = _arg_type(site).element.fields[0].type
    keys = [each[0] for each in tuples]
    return site.wait(keys, [key_type] * len(keys), partial(_map_keys, [each[1] for each in tuples]))


def _map_keys(items: list[Value], site: Site, keys: list[Value]) -> Value:
    key_type = _arg_type(site).element.fields[0].type
    return MapValue([(value_digest(key, key_type), key, item) for key, item in zip(keys, items, strict=True)])


# --------------------------------------------------------------------------------- errors and tracing


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _panic(site: Site, values: list[Value]) -> Value:
    raise EvalError(f"panic: {_text(values[0])}", site.expr.pos)


def _error(site: Site, values: list[Value]) -> Value:
    code = f"code {number.int_text(values[0])}"
    raise ReflowError(Kind.MODULE, "module error", code, cause=f"{site.expr.pos}: {_text(values[1])}")


def _delay(_site: Site, values: list[Value]) -> Value:
    return values[0]


def _trace(site: Site, values: list[Value]) -> Value:
    place = f"({site.ident})" if site.ident else ""
    site.session.trace(f"{site.expr.pos}{place}: {show(values[0], _arg_type(site))}")
    return values[0]


BUILTINS: dict[str, tuple[Callable[[Site, list[Value]], Value], int]] = {
    "len": (_len, 1),
    "int": (_int, 1),
    "float": (_float, 1),
    "zip": (_zip, 2),
    "unzip": (_unzip, 1),
    "flatten": (_flatten, 1),
    "map": (_map, 1),
    "list": (_list, 1),
    "reduce": (_reduce, 2),
    "fold": (_fold, 3),
    "panic": (_panic, 1),
    "error": (_error, 2),
    "delay": (_delay, 1),
    "trace": (_trace, 1),
    "range": (_range, 2),
}
"""Builtins by name: what they do with awaited arguments, and how many they have (more are ignored)."""
