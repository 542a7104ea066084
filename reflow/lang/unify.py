"""Relations between types: equality, subtyping, least common supertype.

Source: types/types.go, Sub and Unify
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reflow.lang.constness import swizzled
from reflow.lang.types import (
    BOTTOM,
    LEAST_REMEMBERED,
    BasicType,
    ErrorType,
    Field,
    FieldsType,
    FuncType,
    ListType,
    MapType,
    ModuleType,
    StructType,
    SumType,
    TupleType,
    Type,
    VariantType,
    equal,
    func_of,
    list_of,
    map_of,
    module_of,
    remembered,
    struct_of,
    sum_of,
    tuple_of,
)

__all__ = ["equal", "is_subtype", "unify"]

_BOTTOM_ID = 1
_TOP_ID = 17

# ---------------------------------------------------------------------------------------- subtyping


def is_subtype(left: Type, right: Type) -> bool:
    """Tell whether a value of type ``left`` may stand where ``right`` is wanted.

    Unit is no subtype of itself, and neither is an error: so it is in the original.
    """
    if left.kind_id == _BOTTOM_ID or right.kind_id == _TOP_ID:
        return True
    if left.kind_id != right.kind_id:
        return False
    compare = _SUBTYPE[type(left)]
    if left.size > LEAST_REMEMBERED:
        return remembered(left, right, "subtype", compare)
    return compare(left, right)


def _sub_basic(left: BasicType, right: BasicType) -> bool:
    return left.kind != "unit"


def _sub_error(left: ErrorType, right: ErrorType) -> bool:
    return False


def _sub_lists(left: ListType, right: ListType) -> bool:
    return is_subtype(left.element, right.element)


def _sub_maps(left: MapType, right: MapType) -> bool:
    return is_subtype(right.key, left.key) and is_subtype(left.value, right.value)


def _sub_fields(left: FieldsType, right: FieldsType) -> bool:
    pairs = zip(left.fields, right.fields, strict=False)
    return len(left.fields) == len(right.fields) and all(is_subtype(one.type, two.type) for one, two in pairs)


def _sub_funcs(left: FuncType, right: FuncType) -> bool:
    return _sub_fields(right, left) and is_subtype(left.result, right.result)


def _sub_structs(left: StructType, right: StructType) -> bool:
    ours = left.by_name
    return all(each.name in ours and is_subtype(ours[each.name], each.type) for each in right.fields)


def _sub_sums(left: SumType, right: SumType) -> bool:
    theirs = {each.tag: each.element for each in right.variants}
    for each in left.variants:
        if each.tag not in theirs:
            return False
        other = theirs[each.tag]
        if each.element is None or other is None:
            if each.element is not other:
                return False
        elif not is_subtype(each.element, other):
            return False
    return True


_SUBTYPE: dict[type[Type], Callable[[Any, Any], bool]] = {
    BasicType: _sub_basic,
    ErrorType: _sub_error,
    ListType: _sub_lists,
    MapType: _sub_maps,
    TupleType: _sub_fields,
    FuncType: _sub_funcs,
    StructType: _sub_structs,
    ModuleType: _sub_structs,
    SumType: _sub_sums,
}

# -------------------------------------------------------------------------------------- unification


def unify(level: int, types: Sequence[Type]) -> Type:
    """Return the least common supertype, or an error type that says why there is none.

    Messages name what was unified so far first, then the next type. The result's level is at most ``level``,
    and at most that of each type, save that bottom does not count.
    """
    if not types:
        return BOTTOM
    try:
        return _unify(level, types)
    except _MismatchError as mismatch:
        return ErrorType(str(mismatch))


class _MismatchError(Exception):
    """Why two types have no common supertype."""


def _unify(level: int, types: Sequence[Type]) -> Type:
    result = types[0]
    lowest, predicates = result.level, result.predicates
    for other in types[1:]:
        if result.kind_id == _BOTTOM_ID:
            result = swizzled(other, level, result)
            continue
        if other.kind_id == _BOTTOM_ID:
            result = swizzled(result, level, other)
            continue
        if result.kind_id != other.kind_id:
            raise _MismatchError(f"kind mismatch: {result.kind} != {other.kind}")
        predicates |= other.predicates
        lowest = min(lowest, other.level)
        # A list's element is held to what the lists have in common so far, other parts only to ``level``.
        bound = lowest if result.kind_id == ListType.kind_id else level
        result = _merged(result, other, bound)
    return _settled(result, min(lowest, level), predicates)


def _merged(left: Type, right: Type, level: int) -> Type:
    merge = _UNIFY[type(left)]
    if left.size > LEAST_REMEMBERED:
        return remembered(left, right, level, lambda one, two: merge(one, two, level))
    return merge(left, right, level)


def _settled(result: Type, level: int, predicates: frozenset[int]) -> Type:
    if result.level == level and (not predicates or predicates == result.predicates):
        return result
    return result.replaced(level=level, predicates=predicates or None)


_PLAIN = frozenset({"int", "float", "string", "bool", "file", "dir", "unit"})


def _unify_basic(left: BasicType, right: BasicType, level: int) -> Type:
    if left.kind not in _PLAIN:
        raise _MismatchError(f"unknown kind {left.kind}")
    return swizzled(left, level, right)


def _unify_errors(left: ErrorType, right: ErrorType, level: int) -> Type:
    raise _MismatchError("type error")


def _unify_lists(left: ListType, right: ListType, level: int) -> Type:
    return list_of(unify(level, [left.element, right.element]))


def _unify_maps(left: MapType, right: MapType, level: int) -> Type:
    if is_subtype(right.key, left.key):
        key = swizzled(right.key, level, left.key)
    elif is_subtype(left.key, right.key):
        key = swizzled(left.key, level, right.key)
    else:
        raise _MismatchError(f"{left.key} and {right.key} are incompatible map key types")
    return map_of(key, unify(level, [left.value, right.value]))


def _unify_tuples(left: TupleType, right: TupleType, level: int) -> Type:
    ours, theirs = left.fields, right.fields
    if len(ours) != len(theirs):
        raise _MismatchError(f"mismatched tuple length: {len(ours)} != {len(theirs)}")
    pairs = zip(ours, theirs, strict=True)
    return tuple_of([Field("", unify(level, [one.type, two.type])) for one, two in pairs])


def _unify_funcs(left: FuncType, right: FuncType, level: int) -> Type:
    ours, theirs = left.fields, right.fields
    if len(ours) != len(theirs):
        raise _MismatchError(f"mismatched argument length: {len(ours)} != {len(theirs)}")
    for index, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        if not equal(one.type, two.type):
            raise _MismatchError(f"argument {index} does not match: {one.type} != {two.type}")
    return func_of(ours, unify(level, [left.result, right.result]))


def _common_fields(left: StructType, right: StructType, level: int) -> list[Field]:
    ours = left.by_name
    fields = [
        Field(each.name, unify(level, [ours[each.name], each.type]))
        for each in right.fields
        if each.name in ours
    ]
    if not fields:
        raise _MismatchError(f"{left.kind} {left} and {right} have no fields in common")
    return fields


def _unify_structs(left: StructType, right: StructType, level: int) -> Type:
    return struct_of(_common_fields(left, right, level))


def _unify_modules(left: ModuleType, right: ModuleType, level: int) -> Type:
    return module_of(_common_fields(left, right, level))


def _unify_sums(left: SumType, right: SumType, level: int) -> Type:
    ours = {each.tag: each.element for each in left.variants}
    theirs = {each.tag: each.element for each in right.variants}
    variants = []
    for tag in {**ours, **theirs}:
        if tag in ours and tag in theirs:
            variants.append(VariantType(tag, _common_element(tag, ours[tag], theirs[tag], level)))
        else:
            variants.append(VariantType(tag, ours[tag] if tag in ours else theirs[tag]))
    return sum_of(variants)


def _common_element(tag: str, one: Type | None, two: Type | None, level: int) -> Type | None:
    if one is None and two is None:
        return None
    if one is None or two is None:
        raise _MismatchError(f"cannot unify {tag}, as one of variants is typeless")
    return unify(level, [one, two])


_UNIFY: dict[type[Type], Callable[[Any, Any, int], Type]] = {
    BasicType: _unify_basic,
    ErrorType: _unify_errors,
    ListType: _unify_lists,
    MapType: _unify_maps,
    TupleType: _unify_tuples,
    FuncType: _unify_funcs,
    StructType: _unify_structs,
    ModuleType: _unify_modules,
    SumType: _unify_sums,
}
