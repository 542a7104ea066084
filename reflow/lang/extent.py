"""How large a value is when it is written out: what is shared counts as often as it is met.

``[x, x]`` of ``[y, y]`` of … takes no memory to speak of, and no time; to print, to digest, to compare or to
force it would take for ever. Such a value is an error as soon as one of these is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reflow.flow.node import Flow
from reflow.lang.diagnostic import EvalError
from reflow.lang.limit import MAX_EXTENT, MAX_LIST, MAX_STRING
from reflow.lang.source import Pos
from reflow.lang.types import FieldsType, ListType, MapType, ModuleType, StructType, SumType, TupleType, Type
from reflow.lang.value import MapValue, Struct, Value, Variant

_LEAST_REMEMBERED = 64
_BYTES_OF_A_PART = 64
"""A string or an integer of so many bytes counts like one more part."""


def check_string(size_bytes: int, pos: Pos | None = None) -> None:
    """Raise EvalError when a string would be too long."""
    if size_bytes > MAX_STRING:
        raise EvalError(f"string of {size_bytes} bytes is too long, the limit is {MAX_STRING}", pos)


def check_list(size: int, pos: Pos | None = None) -> None:
    """Raise EvalError when a list would be too long."""
    if size > MAX_LIST:
        raise EvalError(f"list of {size} elements is too long, the limit is {MAX_LIST}", pos)


class TooLargeError(Exception):
    """A value that has more parts than can be looked at."""


def check_extent(value: Value, type: Type) -> None:
    """Raise EvalError when a value is too large to be written out. RecursionErrors are the caller's."""
    try:
        _measure(value, type)
    except TooLargeError as err:
        raise EvalError(
            f"value is too large: written out it has more than {MAX_EXTENT} parts, "
            "many of them more than once"
        ) from err


def is_too_large(value: Value, type: Type) -> bool:
    """Whether a value has more parts than can be looked at, or is too deep; a plain list never is."""
    try:
        _measure(value, type)
    except (TooLargeError, RecursionError):
        return True
    return False


def _measure(value: Value, type: Type) -> None:
    """Raise TooLargeError for a value with more parts than can be looked at."""
    if type.kind not in _MEASURES or isinstance(value, Flow):
        return
    if isinstance(type, ListType) and type.element.kind not in _COUNTED:
        return
    if _Meter().measure(value, type) > MAX_EXTENT:
        raise TooLargeError


class _Meter:
    """Adds parts up; sums of containers are remembered, so that shared ones are looked at once."""

    __slots__ = ("_known", "_members")

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}
        self._members: dict[int, list[tuple[Any, Type]]] = {}

    def measure(self, value: Value, type: Type) -> int:
        """The number of parts. Raises TooLargeError when there are too many."""
        if isinstance(value, Flow):
            return 1
        known = self._known.get((id(value), id(type)))
        if known is None:
            known = _MEASURES[type.kind](self, value, type)
            if known > MAX_EXTENT:
                raise TooLargeError
            if known > _LEAST_REMEMBERED:
                self._known[id(value), id(type)] = known
        return known

    def all(self, values: Sequence[Value], type: Type) -> int:
        """The number of parts of values of one type."""
        if type.kind in _SIZED:
            sizes = [_SIZED[type.kind](each) for each in values if not isinstance(each, Flow)]
            return len(values) + sum(sizes)
        total = len(values)
        if type.kind in _MEASURES:
            measure = self.measure
            for each in values:
                total += measure(each, type)
                if total > MAX_EXTENT:
                    raise TooLargeError
        return total

    def members(self, value: Any, type: FieldsType, keys: Callable[[FieldsType], Sequence[Any]]) -> int:
        """The number of parts of a tuple's or a struct's members."""
        members = self._members.get(id(type))
        if members is None:
            pairs = zip(keys(type), [field.type for field in type.fields], strict=True)
            members = self._members[id(type)] = [(key, each) for key, each in pairs if each.kind in _COUNTED]
        total = len(type.fields)
        for key, each in members:
            member = value[key]
            if isinstance(member, Flow):
                continue
            size = _SIZED.get(each.kind)
            total += self.measure(member, each) if size is None else size(member)
        return total


def _list(meter: _Meter, value: list[Value], type: ListType) -> int:
    return meter.all(value, type.element)


def _map(meter: _Meter, value: MapValue, type: MapType) -> int:
    return meter.all([each for _, each in value.items()], type.value)


def _tuple(meter: _Meter, value: tuple[Value, ...], type: FieldsType) -> int:
    return meter.members(value, type, lambda each: range(len(each.fields)))


def _struct(meter: _Meter, value: Struct, type: StructType) -> int:
    return meter.members(value, type, lambda each: [field.name for field in each.fields])


def _sum(meter: _Meter, value: Variant, type: SumType) -> int:
    variant = type.variant(value.tag)
    if variant is None or variant.element is None:
        return 1
    return 1 + meter.all((value.element,), variant.element)


_SIZED: dict[str, Callable[[Any], int]] = {
    "string": lambda value: len(value) // _BYTES_OF_A_PART,
    "int": lambda value: value.bit_length() // (8 * _BYTES_OF_A_PART),
}

_MEASURES: dict[str, Callable[[_Meter, Any, Any], int]] = {
    ListType.kind: _list,
    MapType.kind: _map,
    TupleType.kind: _tuple,
    StructType.kind: _struct,
    ModuleType.kind: _struct,
    SumType.kind: _sum,
}

_COUNTED = frozenset([*_SIZED, *_MEASURES])
"""Kinds of members that can count for more than one part."""
