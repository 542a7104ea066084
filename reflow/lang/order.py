"""Order and equality of immediate values, whatever their types.

The language's own ``==`` also waits for delayed parts: `reflow.lang.interp_equal`. Delayed values are equal
only to themselves, functions by digest. Source: values/values.go, Less and Equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from reflow.core.fileset import File, Fileset, path_bytes
from reflow.lang.value import Dir, MapValue, Struct, Unit, Value, Variant


def equal(left: Value, right: Value) -> bool:
    """Structural equality; floats by their number, files as `File` compares them."""
    compare = _EQUAL.get(type(left))
    if compare is None:
        return bool(left is right or left == right)
    return type(left) is type(right) and compare(left, right)


def less(left: Value, right: Value) -> bool:
    """Whether one value comes before another of the same type. Functions and variants have no order."""
    compare = _LESS.get(type(left))
    assert type(left) is type(right), "values of different types have no order"
    return bool(left < right) if compare is None else compare(left, right)


def _equal_sequences(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(map(equal, left, right))


def _equal_structs(left: Struct, right: Struct) -> bool:
    return left.keys() == right.keys() and all([equal(left[name], right[name]) for name in left])


def _equal_maps(left: MapValue, right: MapValue) -> bool:
    if left.digests() != right.digests():
        return False
    return all([equal(a, b) for (_, a), (_, b) in zip(left.items(), right.items(), strict=True)])


def _equal_variants(left: Variant, right: Variant) -> bool:
    if left.tag != right.tag or left.has_element != right.has_element:
        return False
    return not left.has_element or equal(left.element, right.element)


_EQUAL: dict[type, Callable[[Any, Any], bool]] = {
    list: _equal_sequences,
    tuple: _equal_sequences,
    Struct: _equal_structs,
    MapValue: _equal_maps,
    Variant: _equal_variants,
    Dir: lambda left, right: left.files == right.files,
}


def _file_less(left: File, right: File) -> bool:
    """References before contents; contents by digest; references by source, then ETag."""
    if left.id is None or right.id is None:
        if left.id is not None or right.id is not None:
            return left.id is None
        return (path_bytes(left.source), left.etag) < (path_bytes(right.source), right.etag)
    return left.id < right.id


def _dir_less(left: Dir, right: Dir) -> bool:
    if len(left) != len(right):
        return len(left) < len(right)
    for (path, file), (other_path, other) in zip(left.items(), right.items(), strict=True):
        if path != other_path:
            return path_bytes(path) < path_bytes(other_path)
        if _file_less(file, other):
            return True
    return False


def _list_less(left: list[Value], right: list[Value]) -> bool:
    if len(left) != len(right):
        return len(left) < len(right)
    return any(map(less, left, right))


def _map_less(left: MapValue, right: MapValue) -> bool:
    if len(left) != len(right):
        return len(left) < len(right)
    for (key, value), (other_key, other) in zip(_by_key(left), _by_key(right), strict=True):
        if not equal(key, other_key):
            return less(key, other_key)
        if not equal(value, other):
            return less(value, other)
    return False


def _by_key(value: MapValue) -> list[tuple[Value, Value]]:
    def compare(left: tuple[Value, Value], right: tuple[Value, Value]) -> int:
        return -1 if less(left[0], right[0]) else int(less(right[0], left[0]))

    return sorted(value.items(), key=cmp_to_key(compare))


def _tuple_less(left: tuple[Value, ...], right: tuple[Value, ...]) -> bool:
    for each, other in zip(left, right, strict=True):
        if not equal(each, other):
            return less(each, other)
    return False


def _struct_less(left: Struct, right: Struct) -> bool:
    names = sorted(left, key=str.encode)
    return _tuple_less(tuple(left[name] for name in names), tuple(right[name] for name in names))


def _no_order(_left: Value, _right: Value) -> bool:
    raise AssertionError("attempted to compare incomparable values")


_LESS: dict[type, Callable[[Any, Any], bool]] = {
    Unit: lambda _left, _right: False,
    File: _file_less,
    Dir: _dir_less,
    list: _list_less,
    tuple: _tuple_less,
    MapValue: _map_less,
    Struct: _struct_less,
    Variant: _no_order,
    Fileset: _no_order,
}
