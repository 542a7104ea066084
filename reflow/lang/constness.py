"""Constness and the flow flag: what is known of a value before the program runs.

A type of level CONST belongs to a value that can be computed from the module's text alone; predicates say
which parameters must be constant for that. Nothing of this decides whether a program is accepted, save the
flow flag where an immediate value is asked for.

Source: types/types.go, Const, NotConst, Satisfied, Swizzle
"""

from __future__ import annotations

from itertools import count

from reflow.lang.types import CAN_CONST, CONST, EMPTY_PREDICATES, NOT_CONST, SumType, Type

_predicates = count(1)

# What is known of a type for good. Types never lead to themselves, so that trees can be walked.
_STAYS_AS_IT_IS = 1
_IS_TAINTED = 2


def fresh_predicate() -> int:
    """A predicate that no type hangs on yet."""
    return next(_predicates)


def const(type: Type, predicate: int | None = None) -> Type:
    """The type as constant, if all its parts are; a predicate is added to those it hangs on."""
    promoted = _promoted(type)
    if predicate is None:
        return promoted
    return promoted.replaced(predicates=promoted.predicates | {predicate})


def _promoted(type: Type) -> Type:
    if type.level == CONST or type._fixed & _STAYS_AS_IT_IS:
        return type
    known = type._as_const
    if known is None:
        known = _promote(type)
        if known is type:
            type._fixed |= _STAYS_AS_IT_IS
        else:
            type._as_const = known
    return known


def _promote(type: Type) -> Type:
    result = type.rebuilt(_promoted)
    if result.level != CAN_CONST:
        return result
    # The elements of a sum do not count: so it is in the original.
    if not isinstance(result, SumType) and any(part.level < CONST for part in result.parts()):
        return result
    return result.replaced(level=CONST)


def not_const(type: Type) -> Type:
    """The type and all its parts as not constant. Made once for each type."""
    if type._fixed & _IS_TAINTED:
        return type
    known = type._as_not_const
    if known is None:
        known = type.rebuilt(not_const)
        if known.level != NOT_CONST:
            known = known.replaced(level=NOT_CONST)
        known._fixed |= _IS_TAINTED
        if known is not type:
            type._as_not_const = known
    return known


def _can_const(type: Type) -> Type:
    result = type.rebuilt(_can_const)
    return result if result.level <= CAN_CONST else result.replaced(level=CAN_CONST)


def capped(type: Type, level: int) -> Type:
    """The type with no level above the one given, at any depth."""
    if level == NOT_CONST:
        return not_const(type)
    return _can_const(type) if level == CAN_CONST else type


def swizzled(type: Type, level: int, *sources: Type) -> Type:
    """The type of a value that is computed from values of other types.

    It is not constant when one of them is not, hangs on all their predicates, and is a flow when one of
    them is; no level is above ``level``. An error among them, the type itself first, is the result.
    """
    if type.kind_id == 0:
        return type
    is_flow, own_level, predicates = type.is_flow, type.level, type.predicates
    for source in sources:
        if source.kind_id == 0:
            return source
        if source.is_flow:
            is_flow = True
        if source.level == NOT_CONST:
            own_level = NOT_CONST
        if source.predicates:
            predicates |= source.predicates
    if is_flow != type.is_flow or own_level != type.level or predicates != type.predicates:
        type = type.replaced(is_flow=is_flow, level=own_level, predicates=predicates)
    return capped(type, level)


def is_const(type: Type, satisfied: frozenset[int] = EMPTY_PREDICATES) -> bool:
    """Tell whether a type is constant when the given predicates hold."""
    return type.level == CONST and type.predicates <= satisfied


def with_satisfied(type: Type, predicates: frozenset[int]) -> Type:
    """The type freed of predicates that hold."""

    def free(part: Type) -> Type:
        result = part.rebuilt(free)
        if result.level == CONST and result.predicates & predicates:
            return result.replaced(predicates=result.predicates - predicates)
        return result

    return free(type) if predicates else type
