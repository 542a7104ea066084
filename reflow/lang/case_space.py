"""Which values the cases of a switch leave over.

A space is a set of values, described as a pattern without names; None is every value. What is not yet handled
begins as every value; a case is unreachable when it meets nothing of that, and takes its own away. Spaces are
compared by value, and those inside of others are dropped, so that sets stay small.

Source: syntax/switch.go, checkCases, Complement, IntersectOne
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from reflow.lang.syntax import ListPattern, Pattern, StructPattern, TuplePattern, VariantPattern
from reflow.lang.types import FieldsType, ListType, SumType, TupleType, Type

Space: TypeAlias = "TupleSpace | ListSpace | StructSpace | VariantSpace | None"


class TupleSpace(NamedTuple):
    """Tuples whose elements lie in spaces."""

    items: tuple[Space, ...]


class ListSpace(NamedTuple):
    """Lists whose first elements lie in spaces; ``goes_on`` if they may be longer."""

    items: tuple[Space, ...]
    goes_on: bool


class StructSpace(NamedTuple):
    """Structs, some of whose fields lie in spaces; sorted by name."""

    fields: tuple[tuple[str, Space], ...]


class VariantSpace(NamedTuple):
    """Variants of one tag; ``element`` is None too when the variant has none."""

    tag: str
    element: Space


def space_of(pattern: Pattern) -> Space:
    """What a pattern matches."""
    match pattern:
        case TuplePattern(items=items):
            return TupleSpace(tuple([space_of(each) for each in items]))
        case ListPattern():
            items, goes_on = _flattened(pattern)
            return ListSpace(tuple([space_of(each) for each in items]), goes_on)
        case StructPattern(fields=fields):
            return _struct({name: space_of(each) for name, each in fields})
        case VariantPattern(tag=tag, element=element):
            return VariantSpace(tag, None if element is None else space_of(element))
        case _:
            return None


def _flattened(pattern: ListPattern) -> tuple[tuple[Pattern, ...], bool]:
    """The elements of a pattern and of the patterns in its tail, and whether longer lists match."""
    items = pattern.items
    while isinstance(pattern.tail, ListPattern):
        pattern = pattern.tail
        items += pattern.items
    return items, pattern.tail is not None


def _struct(fields: Mapping[str, Space]) -> Space:
    bound = sorted([name for name, space in fields.items() if space is not None])
    return StructSpace(tuple([(name, fields[name]) for name in bound])) if bound else None


def space_text(space: Space, type: Type) -> str:
    """A space of values of a type as a pattern that matches it."""
    match space, type:
        case TupleSpace(items=items), TupleType(fields=fields):
            words = [space_text(item, field.type) for item, field in zip(items, fields, strict=True)]
            return f"({', '.join(words)})"
        case ListSpace(items=items, goes_on=goes_on), ListType(element=element):
            words = [space_text(each, element) for each in items]
            return f"[{', '.join(words + ['...'] * goes_on)}]"
        case StructSpace(fields=parts), FieldsType():
            shown = [f"{name}: {space_text(each, type.by_name[name])}" for name, each in parts]
            return "{" + ", ".join(shown) + "}"
        case VariantSpace(tag=tag, element=inner), SumType():
            variant = type.variant(tag)
            within = None if variant is None else variant.element
            return f"#{tag}" if within is None else f"#{tag}({space_text(inner, within)})"
        case _:
            return "_"


# ------------------------------------------------------------------------------------ sets of spaces


class TooMuchEffortError(Exception):
    """The cases of a switch cannot be looked through in a sensible time."""


_ITEMS_OF_A_STEP = 4
"""To compare so many items of tuples or lists with nothing takes as long as a step."""


class Effort:
    """Counts steps: how many spaces are left over can double with every case."""

    __slots__ = ("_left",)

    def __init__(self, limit: int = 1 << 20) -> None:
        self._left = limit

    def spend(self, steps: int) -> None:
        """Count some steps. Raises TooMuchEffortError when there were too many."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchEffortError


def is_met(unhandled: Iterable[Space], space: Space, effort: Effort) -> bool:
    """Tell whether a space has values in common with any of some."""
    return any(intersection(space, each, effort) is not NOTHING for each in unhandled)


def without(unhandled: Sequence[Space], pattern: Pattern, type: Type, effort: Effort) -> list[Space]:
    """The spaces without the values that a pattern of the given type matches."""
    if isinstance(pattern, VariantPattern) and isinstance(type, SumType) and None not in unhandled:
        return _without_variant(unhandled, pattern, type, effort)
    return _without_all(unhandled, complement(pattern, type, effort), effort)


def _without_variant(
    unhandled: Sequence[Space], pattern: VariantPattern, type: SumType, effort: Effort
) -> list[Space]:
    """The same for a tag: spaces of other tags stay, and need not be looked at."""
    own = [each for each in unhandled if isinstance(each, VariantSpace) and each.tag == pattern.tag]
    left = [each for each in unhandled if not (isinstance(each, VariantSpace) and each.tag == pattern.tag)]
    return left + _without_all(own, _element_complement(pattern, type, effort), effort)


def _without_all(unhandled: Sequence[Space], rest: Sequence[Space], effort: Effort) -> list[Space]:
    left: list[Space] = []
    for each in unhandled:
        if _is_inside(each, rest, effort):
            left.append(each)
        else:
            met = [intersection(each, other, effort) for other in rest]
            left += [one for one in met if one is not NOTHING]
    return _largest(left, effort)


def _largest(spaces: Iterable[Space], effort: Effort) -> list[Space]:
    """The spaces that are not inside another of them. Those of two tags are never compared."""
    by_tag: dict[str, list[Space]] = {}
    for space in dict.fromkeys(spaces):
        kept = by_tag.setdefault(space.tag if isinstance(space, VariantSpace) else "", [])
        if not _is_inside(space, kept, effort):
            kept[:] = [each for each in kept if not _covers(space, each, effort)]
            kept.append(space)
    return [each for kept in by_tag.values() for each in kept]


def _is_inside(space: Space, others: Iterable[Space], effort: Effort) -> bool:
    """Tell whether a space is inside one of some others."""
    return any(_covers(each, space, effort) for each in others)


def _covers(one: Space, two: Space, effort: Effort) -> bool:
    """Tell whether the first space holds all values of the second."""
    return one is None or (two is not None and intersection(one, two, effort) == two)


# --------------------------------------------------------------------------------------- complement


def complement(pattern: Pattern, type: Type, effort: Effort) -> list[Space]:
    """What a pattern does not match, of all values of a type."""
    match pattern, type:
        case TuplePattern(items=items), TupleType(fields=fields):
            return [
                TupleSpace(_only(index, rest, len(items), effort))
                for index, item in enumerate(items)
                for rest in complement(item, fields[index].type, effort)
            ]
        case ListPattern(), ListType():
            return _list_complement(pattern, type, effort)
        case StructPattern(), FieldsType():
            named = dict(pattern.fields)
            return [
                _struct({field.name: rest})
                for field in type.fields
                if field.name in named
                for rest in complement(named[field.name], field.type, effort)
            ]
        case VariantPattern(), SumType():
            effort.spend(len(type.variants))
            others = [VariantSpace(each.tag, None) for each in type.variants if each.tag != pattern.tag]
            return [*_element_complement(pattern, type, effort), *others]
        case _:
            return []


def _only(index: int, space: Space, size: int, effort: Effort) -> tuple[Space, ...]:
    effort.spend(1 + size // _ITEMS_OF_A_STEP)
    return (None,) * index + (space,) + (None,) * (size - index - 1)


def _list_complement(pattern: ListPattern, type: ListType, effort: Effort) -> list[Space]:
    size = len(pattern.items)
    effort.spend(size * size // 64)
    rest: list[Space] = [ListSpace((None,) * shorter, False) for shorter in range(size)]
    for index, item in enumerate(pattern.items):
        # The original leaves the tail out here: longer lists with such an element count as handled.
        for each in complement(item, type.element, effort):
            rest.append(ListSpace(_only(index, each, size, effort), False))
    if pattern.tail is None:
        rest.append(ListSpace((None,) * (size + 1), True))
    else:
        for each in complement(pattern.tail, type, effort):
            assert isinstance(each, ListSpace)
            effort.spend(1 + len(each.items) // 16)
            rest.append(ListSpace((None,) * size + each.items, each.goes_on))
    return rest


def _element_complement(pattern: VariantPattern, type: SumType, effort: Effort) -> list[Space]:
    """Variants of the pattern's own tag that it does not match."""
    own = type.variant(pattern.tag)
    if pattern.element is None or own is None or own.element is None:
        return []
    return [VariantSpace(pattern.tag, each) for each in complement(pattern.element, own.element, effort)]


# ------------------------------------------------------------------------------------- intersection


class _Nothing:
    """The space of no values."""


NOTHING = cast("Space", _Nothing())


def intersection(one: Space, two: Space, effort: Effort) -> Space:
    """What two spaces have in common; NOTHING when that is nothing."""
    if one is None or one is two:
        return two
    if two is None:
        return one
    if isinstance(one, VariantSpace) and isinstance(two, VariantSpace) and one.tag != two.tag:
        return NOTHING
    effort.spend(1)
    match one, two:
        case TupleSpace(), TupleSpace():
            items = _pairwise(one.items, two.items, effort)
            return NOTHING if items is None else TupleSpace(items)
        case ListSpace(), ListSpace():
            return _list_intersection(one, two, effort)
        case StructSpace(), StructSpace():
            return _struct_intersection(dict(one.fields), dict(two.fields), effort)
        case VariantSpace(), VariantSpace():
            element = intersection(one.element, two.element, effort)
            return NOTHING if element is NOTHING else VariantSpace(one.tag, element)
        case _:
            return NOTHING


def _pairwise(ours: Sequence[Space], theirs: Sequence[Space], effort: Effort) -> tuple[Space, ...] | None:
    effort.spend(len(ours) // _ITEMS_OF_A_STEP)
    items = []
    for one, two in zip(ours, theirs, strict=False):
        both = intersection(one, two, effort)
        if both is NOTHING:
            return None
        items.append(both)
    return tuple(items)


def _list_intersection(one: ListSpace, two: ListSpace, effort: Effort) -> Space:
    short, long = (one, two) if len(one.items) <= len(two.items) else (two, one)
    if len(long.items) > len(short.items) and not short.goes_on:
        return NOTHING
    items = _pairwise(short.items, long.items, effort)
    if items is None:
        return NOTHING
    return ListSpace(items + long.items[len(short.items) :], short.goes_on and long.goes_on)


def _struct_intersection(ours: dict[str, Space], theirs: dict[str, Space], effort: Effort) -> Space:
    fields = dict(ours)
    for name, space in theirs.items():
        both = intersection(ours.get(name), space, effort)
        if both is NOTHING:
            return NOTHING
        fields[name] = both
    return _struct(fields)
