from __future__ import annotations

import pytest

from reflow.lang.constness import const, fresh_predicate, is_const, not_const, swizzled, with_satisfied
from reflow.lang.types import (
    BOTTOM,
    CAN_CONST,
    CONST,
    INT,
    NOT_CONST,
    STRING,
    ErrorType,
    Field,
    ModuleType,
    StructType,
    TupleType,
    Type,
    VariantType,
    flow_of,
    list_of,
    map_of,
    module_of,
    struct_of,
    sum_of,
    tuple_of,
)
from reflow.lang.unify import unify

ONE, TWO = fresh_predicate(), fresh_predicate()


def pair(left: Type, right: Type) -> TupleType:
    made = tuple_of([Field("", left), Field("", right)])
    assert isinstance(made, TupleType)
    return made


def struct(**types: Type) -> StructType:
    made = struct_of([Field(name, type) for name, type in types.items()])
    assert isinstance(made, StructType)
    return made


def test_predicates_are_never_minted_twice() -> None:
    assert ONE != TWO


def test_a_type_is_constant_when_all_its_parts_are() -> None:
    assert const(struct(a=INT, b=STRING)).level == CONST
    assert const(struct(a=INT, b=flow_of(INT))).level == CAN_CONST
    assert const(flow_of(INT)).level == NOT_CONST


def test_the_elements_of_a_sum_do_not_count() -> None:
    assert const(sum_of([VariantType("A", flow_of(INT))])).level == CONST


def test_the_parts_become_constant_with_the_whole() -> None:
    whole = const(map_of(STRING, list_of(INT)))
    assert [part.level for part in whole.parts()] == [CONST, CONST]


def test_not_constant_taints_all_parts_and_is_computed_once() -> None:
    constant = const(list_of(INT))
    tainted = not_const(constant)
    assert [tainted.level, tainted.parts()[0].level] == [NOT_CONST, NOT_CONST]
    assert not_const(constant) is tainted
    assert not_const(tainted) is tainted


@pytest.mark.parametrize("level", [NOT_CONST, CAN_CONST, CONST])
def test_an_error_among_the_sources_wins(level: int) -> None:
    error = ErrorType("x")
    assert swizzled(INT, level, STRING, error, ErrorType("y")) is error
    assert swizzled(error, level, ErrorType("y")) is error


def test_a_source_hands_on_that_it_is_delayed_and_not_constant() -> None:
    result = swizzled(const(INT), CONST, flow_of(STRING))
    assert (result.is_flow, result.level) == (True, NOT_CONST)


def test_the_level_is_held_down_at_any_depth() -> None:
    result = swizzled(const(list_of(INT)), CAN_CONST)
    assert [result.level, result.parts()[0].level] == [CAN_CONST, CAN_CONST]


def test_nothing_new_is_made_when_nothing_changes() -> None:
    constant = const(struct(a=INT))
    assert swizzled(constant, CONST, INT) is constant
    assert const(constant) is constant


def test_predicates_are_gathered_from_the_sources() -> None:
    result = swizzled(const(INT), CONST, const(INT, ONE), const(INT, TWO))
    assert result.predicates == {ONE, TWO}
    assert is_const(result, frozenset({ONE, TWO}))
    assert not is_const(result, frozenset({ONE}))


def test_what_is_satisfied_is_taken_out_at_any_depth() -> None:
    module = module_of([Field("a", INT), Field("c", pair(const(INT, ONE), const(STRING, TWO)))])
    free = with_satisfied(module, frozenset({ONE}))
    assert isinstance(free, ModuleType)
    inner = free.by_name["c"]
    assert isinstance(inner, TupleType)
    assert [is_const(each.type) for each in inner.fields] == [True, False]
    assert with_satisfied(module, frozenset()) is module


def test_common_supertypes_have_the_lowest_level_and_all_predicates() -> None:
    # Source: types/type_test.go, TestConstUnify and TestConstPromoteUnify
    plain = struct(a=INT, c=pair(const(INT, ONE), const(STRING, TWO)))
    unified = unify(CONST, [plain, plain])
    assert isinstance(unified, StructType)
    inner = unified.by_name["c"]
    assert isinstance(inner, TupleType)
    assert [unified.level, inner.level] == [CAN_CONST, CAN_CONST]
    assert [each.type.predicates for each in inner.fields] == [{ONE}, {TWO}]

    promoted = struct(a=INT, c=const(pair(const(INT, ONE), const(STRING, TWO))))
    unified = unify(CONST, [promoted, promoted])
    assert isinstance(unified, StructType)
    assert [unified.level, unified.by_name["c"].level] == [CAN_CONST, CONST]


def test_bottom_does_not_hold_the_level_down() -> None:
    assert unify(CONST, [const(INT), BOTTOM]).level == CONST
