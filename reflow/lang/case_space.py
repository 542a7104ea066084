"""Which values the cases of a switch leave over, as sets of patterns.

A set is a list of patterns; identifiers and ``_`` stand for every value. The values not yet handled begin as
``[_]``; each case is unreachable when it meets none of them, and takes its own away.

Source: syntax/switch.go, checkCases, Complement, IntersectOne
"""

from __future__ import annotations

from collections.abc import Sequence

from reflow.lang.source import NO_POS
from reflow.lang.syntax import (
    IdentPattern,
    IgnorePattern,
    ListPattern,
    Pattern,
    StructPattern,
    TuplePattern,
    VariantPattern,
)
from reflow.lang.types import FieldsType, ListType, SumType, TupleType, Type

ANYTHING = IgnorePattern(NO_POS)

_WILD = (IgnorePattern, IdentPattern)


def is_met(unhandled: Sequence[Pattern], pattern: Pattern) -> bool:
    """Tell whether a pattern matches any of the values that a set stands for."""
    return any(intersection(pattern, each) is not None for each in unhandled)


def without(unhandled: Sequence[Pattern], pattern: Pattern, type: Type) -> list[Pattern]:
    """The set without the values that a pattern of the given type matches."""
    rest = complement(pattern, type)
    left: list[Pattern] = []
    for each in unhandled:
        if _is_other_variant(each, pattern):
            left.append(each)
            continue
        met = [intersection(each, other) for other in rest]
        left += [one for one in met if one is not None]
    return left


def _is_other_variant(one: Pattern, two: Pattern) -> bool:
    """Patterns of two tags have nothing in common; this keeps switches over many tags fast."""
    return isinstance(one, VariantPattern) and isinstance(two, VariantPattern) and one.tag != two.tag


# --------------------------------------------------------------------------------------- complement


def complement(pattern: Pattern, type: Type) -> list[Pattern]:
    """What a pattern does not match, of all values of a type."""
    match pattern, type:
        case TuplePattern(items=items), TupleType(fields=fields):
            return _tuple_complement(items, [each.type for each in fields])
        case ListPattern(), ListType():
            return _list_complement(pattern, type)
        case StructPattern(), FieldsType():
            return _struct_complement(dict(pattern.fields), type)
        case VariantPattern(), SumType():
            return _variant_complement(pattern, type)
        case _:
            return []


def _only(index: int, pattern: Pattern, size: int) -> tuple[Pattern, ...]:
    return (ANYTHING,) * index + (pattern,) + (ANYTHING,) * (size - index - 1)


def _tuple_complement(items: Sequence[Pattern], types: Sequence[Type]) -> list[Pattern]:
    return [
        TuplePattern(NO_POS, _only(index, rest, len(items)))
        for index, item in enumerate(items)
        for rest in complement(item, types[index])
    ]


def _list_complement(pattern: ListPattern, type: ListType) -> list[Pattern]:
    size = len(pattern.items)
    rest: list[Pattern] = [ListPattern(NO_POS, (ANYTHING,) * shorter, None) for shorter in range(size)]
    for index, item in enumerate(pattern.items):
        # The original leaves the tail out here: longer lists with such an element count as handled.
        rest += [
            ListPattern(NO_POS, _only(index, each, size), None) for each in complement(item, type.element)
        ]
    if pattern.tail is None:
        rest.append(ListPattern(NO_POS, (ANYTHING,) * (size + 1), ANYTHING))
    else:
        tails = complement(pattern.tail, type)
        rest += [ListPattern(NO_POS, (ANYTHING,) * size, each) for each in tails]
    return rest


def _struct_complement(items: dict[str, Pattern], type: FieldsType) -> list[Pattern]:
    return [
        StructPattern(NO_POS, ((field.name, rest),))
        for field in type.fields
        if field.name in items
        for rest in complement(items[field.name], field.type)
    ]


def _variant_complement(pattern: VariantPattern, type: SumType) -> list[Pattern]:
    rest: list[Pattern] = []
    own = type.variant(pattern.tag)
    if pattern.element is not None and own is not None and own.element is not None:
        elements = complement(pattern.element, own.element)
        rest += [VariantPattern(NO_POS, pattern.tag, each) for each in elements]
    for variant in type.variants:
        if variant.tag != pattern.tag:
            element = None if variant.element is None else ANYTHING
            rest.append(VariantPattern(NO_POS, variant.tag, element))
    return rest


# ------------------------------------------------------------------------------------- intersection


def intersection(one: Pattern, two: Pattern) -> Pattern | None:
    """What both patterns match; None when that is nothing."""
    if isinstance(one, _WILD):
        return two
    if isinstance(two, _WILD):
        return one
    match one, two:
        case TuplePattern(), TuplePattern():
            items = _pairwise(one.items, two.items)
            return None if items is None else TuplePattern(NO_POS, items)
        case ListPattern(), ListPattern():
            return _list_intersection(one, two)
        case StructPattern(), StructPattern():
            return _struct_intersection(dict(one.fields), dict(two.fields))
        case VariantPattern(), VariantPattern():
            return _variant_intersection(one, two)
        case _:
            return None


def _pairwise(ours: Sequence[Pattern], theirs: Sequence[Pattern]) -> tuple[Pattern, ...] | None:
    items = []
    for one, two in zip(ours, theirs, strict=False):
        both = intersection(one, two)
        if both is None:
            return None
        items.append(both)
    return tuple(items)


def _list_intersection(one: ListPattern, two: ListPattern) -> Pattern | None:
    (short, short_goes_on), (long, long_goes_on) = sorted(
        [_flattened(one), _flattened(two)], key=lambda each: len(each[0])
    )
    if len(long) > len(short) and not short_goes_on:
        return None
    items = _pairwise(short, long)
    if items is None:
        return None
    tail = ANYTHING if short_goes_on and long_goes_on else None
    return ListPattern(NO_POS, (*items, *long[len(short) :]), tail)


def _flattened(pattern: ListPattern) -> tuple[list[Pattern], bool]:
    """The elements of a pattern and of the patterns in its tail, and whether longer lists match."""
    items = list(pattern.items)
    while isinstance(pattern.tail, ListPattern):
        pattern = pattern.tail
        items += pattern.items
    return items, pattern.tail is not None


def _struct_intersection(ours: dict[str, Pattern], theirs: dict[str, Pattern]) -> Pattern | None:
    fields = dict(ours)
    for name, pattern in theirs.items():
        both = intersection(ours.get(name, ANYTHING), pattern)
        if both is None:
            return None
        fields[name] = both
    return StructPattern(NO_POS, tuple(fields.items()))


def _variant_intersection(one: VariantPattern, two: VariantPattern) -> Pattern | None:
    if one.tag != two.tag:
        return None
    if one.element is None or two.element is None:
        return VariantPattern(NO_POS, one.tag, None)
    element = intersection(one.element, two.element)
    return None if element is None else VariantPattern(NO_POS, one.tag, element)
