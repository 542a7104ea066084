"""Equality of values that may hold delayed ones: parts are compared in order, each when it is there.

Comparison stops at the first difference. The nodes that wait for parts, and so the digests, follow the
original's steps; what is there already is compared in loops.
Source: syntax/eval.go, evalEq and its helpers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from reflow.core.digest import Digest
from reflow.core.fileset import File
from reflow.flow.node import Coerce, Flow, Intern
from reflow.lang import types as t
from reflow.lang.coerce import file_of
from reflow.lang.diagnostic import EvalError
from reflow.lang.evaluation import Site
from reflow.lang.extent import is_too_large
from reflow.lang.order import equal
from reflow.lang.value import Dir, MapValue, Struct, Value, Variant

NOT_TAG = Digest.of_text("grail.com/reflow/syntax.Eval.not")

Pairs = Sequence[tuple[Value, Value]]


def compare(site: Site, left: Value, right: Value) -> Value:
    """``left == right`` or ``left != right``, as the site's operator says, of containers, dirs and files."""
    types = (site.expr.left.type, site.expr.right.type)
    if is_too_large(left, types[0]) and is_too_large(right, types[1]):
        raise EvalError("values are too large to be compared", site.expr.pos)
    return site.wait([left, right], types, _STARTS.get(types[0].kind, _start))


def _start(site: Site, values: list[Value]) -> Value:
    return _signed(site, _equal(site, values[0], values[1], site.expr.left.type))


def _signed(site: Site, value: Value) -> Value:
    """The answer, turned round for ``!=``."""
    if site.expr.op == "==":
        return value
    if isinstance(value, Flow):
        return Coerce(_invert, value, NOT_TAG)
    return not value


def _invert(value: bool) -> bool:
    return not value


# ------------------------------------------------------------------------------------- files and dirs


def _start_files(site: Site, values: list[Value]) -> Value:
    left, right = values
    if left.is_resolved == right.is_resolved:
        return _signed(site, left == right)
    pair = [_interned(site, left), _interned(site, right)]
    return site.wait(pair, (t.FILE, t.FILE), _start_resolved)


def _start_resolved(site: Site, values: list[Value]) -> Value:
    return _signed(site, _same_file(site, values[0], values[1]))


def _interned(site: Site, file: File) -> Value:
    """A file as it is, a reference as the node that reads it."""
    if file.is_resolved:
        return file
    intern = Intern(file.source, must_intern=True, ident=site.ident, pos=site.expr.pos)
    return file_of(intern)


def _start_dirs(site: Site, values: list[Value]) -> Value:
    left, right = values
    if len(left) != len(right):
        return _signed(site, False)
    mixed: list[Value] = []
    for (path, file), (other_path, other) in zip(left.items(), right.items(), strict=True):
        if path != other_path:
            return _signed(site, False)
        if file.is_resolved != other.is_resolved:
            mixed += (_interned(site, file), _interned(site, other))
        elif file != other:
            return _signed(site, False)
    if not mixed:
        return _signed(site, True)
    return site.wait(mixed, [t.FILE] * len(mixed), _dirs_step)


def _dirs_step(site: Site, files: list[Value]) -> Value:
    pairs = zip(files[::2], files[1::2], strict=True)
    return _signed(site, all([_same_file(site, left, right) for left, right in pairs]))


_STARTS = {"file": _start_files, "dir": _start_dirs}


def _same_file(site: Site, left: File, right: File) -> bool:
    if left.is_resolved != right.is_resolved:
        names = f"{left.short()} and {right.short()}"
        raise EvalError(f"cannot compare a file with one that was not read yet: {names}", site.expr.pos)
    return left == right


# ----------------------------------------------------------------------------------------- containers


def _equal(site: Site, left: Any, right: Any, type_: t.Type) -> Value:
    """Whether two values are equal whose top is there: a bool, or the node that will tell."""
    match type_:
        case t.ListType(element=element):
            if len(left) != len(right):
                return False
            return _vectors(site, list(zip(left, right, strict=True)), [element] * len(left), 0)
        case t.TupleType(fields=fields):
            pairs = list(zip(left, right, strict=True))
            return _vectors(site, pairs, [field.type for field in fields], 0)
        case t.StructType(fields=fields):
            return _structs(site, left, right, fields)
        case t.MapType():
            return _maps(site, left, right, type_)
        case t.SumType():
            return _variants(site, left, right, type_)
        case _:
            return _scalars(site, left, right)


def _scalars(site: Site, left: Any, right: Any) -> bool:
    if isinstance(left, File):
        return _same_file(site, left, right)
    if isinstance(left, Dir):
        return left.paths() == right.paths() and all(
            [_same_file(site, file, right.files[path]) for path, file in left.items()]
        )
    return equal(left, right)


def _vectors(site: Site, pairs: Pairs, types: Sequence[t.Type], begin: int) -> Value:
    """Compare pairs from one on. A part that is delayed, or whose comparison is, ends the loop: a node."""
    for index in range(begin, len(pairs)):
        left, right = pairs[index]
        type_ = types[index]
        if isinstance(left, Flow) or isinstance(right, Flow):
            return site.wait([left, right], (type_, type_), partial(_vectors_step, pairs, types, index))
        result = _equal(site, left, right, type_)
        if result is not True:
            return result and _then(site, result, pairs, types, index)
    return True


def _vectors_step(
    pairs: Pairs, types: Sequence[t.Type], index: int, site: Site, values: list[Value]
) -> Value:
    """Go on with a pair that was delayed."""
    result = _equal(site, values[0], values[1], types[index])
    if isinstance(result, Flow):
        return _then(site, result, pairs, types, index)
    return result and _vectors(site, pairs, types, index + 1)


def _then(site: Site, result: Value, pairs: Pairs, types: Sequence[t.Type], index: int) -> Value:
    """Go on behind a pair when its own comparison says so."""
    return site.wait([result], (t.BOOL,), partial(_then_step, pairs, types, index))


def _then_step(pairs: Pairs, types: Sequence[t.Type], index: int, site: Site, values: list[Value]) -> Value:
    return values[0] and _vectors(site, pairs, types, index + 1)


def _structs(site: Site, left: Struct, right: Struct, fields: Sequence[t.Field]) -> Value:
    pairs = [(left[field.name], right[field.name]) for field in fields]
    return _vectors(site, pairs, [field.type for field in fields], 0)


def _maps(site: Site, left: MapValue, right: MapValue, type_: t.MapType) -> Value:
    if left.digests() != right.digests():
        return False
    pairs = [(a, b) for (_, a), (_, b) in zip(left.items(), right.items(), strict=True)]
    return _vectors(site, pairs, [type_.value] * len(pairs), 0)


def _variants(site: Site, left: Variant, right: Variant, type_: t.SumType) -> Value:
    if left.tag != right.tag:
        return False
    variant = type_.variant(left.tag)
    if variant is None or variant.element is None:
        return True
    element = variant.element
    return site.wait([left.element, right.element], (element, element), partial(_variant_step, element))


def _variant_step(element: t.Type, site: Site, values: list[Value]) -> Value:
    return _equal(site, values[0], values[1], element)
