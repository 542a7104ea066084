from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.lang.types import (
    BOOL,
    BOTTOM,
    CONST,
    DIR,
    FILE,
    FILESET,
    FLOAT,
    INT,
    STRING,
    TOP,
    UNIT,
    ErrorType,
    Type,
    equal,
    flow_of,
    func_of,
    labelled,
    list_of,
    map_of,
    module_of,
    struct_of,
    tuple_of,
)
from reflow.lang.unify import is_subtype, unify
from tests.typeparts import fields, unnamed, variants

PAIR = tuple_of(unnamed(INT, STRING))
ABC = struct_of(fields(a=INT, b=STRING, c=PAIR))
ADC = struct_of(fields(a=INT, d=STRING, c=PAIR))
ABCD = struct_of(fields(a=INT, b=STRING, c=PAIR, d=STRING))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (ABC, ADC, False),
        (ABCD, ABC, True),
        (ABCD, ADC, True),
        (BOTTOM, ABC, True),
        (ABC, TOP, True),
        (ErrorType("x"), TOP, True),
        (INT, FLOAT, False),
        (UNIT, UNIT, False),
        (FILESET, FILESET, True),
        (ErrorType("x"), ErrorType("x"), False),
        (list_of(BOTTOM), list_of(STRING), True),
        (list_of(ABCD), list_of(ABC), True),
        (map_of(TOP, BOTTOM), map_of(STRING, INT), True),
        (map_of(STRING, INT), map_of(TOP, INT), False),
        (PAIR, tuple_of(unnamed(INT)), False),
        (func_of(unnamed(ABC), ABCD), func_of(unnamed(ABCD), ABC), True),
        (func_of(unnamed(ABCD), ABC), func_of(unnamed(ABC), ABC), False),
        (func_of(unnamed(INT), INT), func_of(unnamed(INT, INT), INT), False),
        (variants(B=None), variants(A=INT, B=None), True),
        (variants(A=INT, B=None), variants(A=INT, B=INT), False),
        (variants(A=ABCD, B=INT), variants(A=ABC, B=INT, C=STRING), True),
        (variants(A=INT), variants(B=INT), False),
        (module_of(fields(a=INT, b=INT)), module_of(fields(a=INT)), True),
        (struct_of(fields(a=INT)), module_of(fields(a=INT)), False),
    ],
)
def test_subtyping(left: Type, right: Type, expected: bool) -> None:
    assert is_subtype(left, right) is expected


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ([ABC, ADC], "{a int, c (int, string)}"),
        ([module_of(fields(a=INT, b=INT)), module_of(fields(a=INT, c=INT))], "module{a int}"),
        ([list_of(STRING), list_of(BOTTOM)], "[string]"),
        ([map_of(INT, STRING), map_of(TOP, BOTTOM)], "[int:string]"),
        ([map_of(INT, ABC), map_of(INT, ADC)], "[int:{a int, c (int, string)}]"),
        ([variants(A=ABC, B=INT), variants(A=ADC, D=FLOAT)], None),
        ([], "bottom"),
        ([BOTTOM, INT], "int"),
        ([INT, BOTTOM], "int"),
        ([UNIT, UNIT], "unit"),
        ([labelled("x", FILE), labelled("y", FILE)], "(x file)"),
        ([tuple_of(fields(x=INT)), tuple_of(fields(x=INT))], "(int)"),
        ([func_of(fields(x=INT), ABC), func_of(fields(y=INT), ADC)], "func(x int) {a int, c (int, string)}"),
        ([variants(A=None), variants(B=None), variants(A=None)], "#A | #B"),
        ([FILESET], "fileset"),
    ],
)
def test_least_common_supertype(types: list[Type], text: str | None) -> None:
    expected = text or "#A({a int, c (int, string)}) | #B(int) | #D(float)"
    assert str(unify(CONST, types)) == expected


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([INT, STRING], "kind mismatch: int != string"),
        ([list_of(INT), list_of(STRING)], "kind mismatch: int != string"),
        ([list_of(INT), list_of(STRING), list_of(INT)], "kind mismatch: error != list"),
        ([ErrorType("x"), ErrorType("y")], "type error"),
        ([ErrorType("x"), INT], "kind mismatch: error != int"),
        ([map_of(INT, INT), map_of(STRING, INT)], "int and string are incompatible map key types"),
        ([PAIR, tuple_of(unnamed(INT))], "mismatched tuple length: 2 != 1"),
        (
            [func_of(unnamed(INT), INT), func_of(unnamed(INT, INT), INT)],
            "mismatched argument length: 1 != 2",
        ),
        (
            [func_of(unnamed(INT, INT), INT), func_of(unnamed(INT, STRING), INT)],
            "argument 1 does not match: int != string",
        ),
        (
            [struct_of(fields(a=INT)), struct_of(fields(b=INT))],
            "struct {a int} and {b int} have no fields in common",
        ),
        (
            [module_of(fields(a=INT)), module_of(fields(b=INT))],
            "module module{a int} and module{b int} have no fields in common",
        ),
        ([variants(A=INT, B=None), variants(B=INT)], "cannot unify B, as one of variants is typeless"),
        ([variants(A=INT), variants(A=STRING)], "kind mismatch: int != string"),
        ([FILESET, FILESET], "unknown kind fileset"),
        ([TOP, TOP], "unknown kind top"),
    ],
)
def test_types_without_a_common_supertype(types: list[Type], message: str) -> None:
    unified = unify(CONST, types)
    assert isinstance(unified, ErrorType)
    assert unified.message == message


def test_delayed_scalars_stay_delayed_and_delayed_containers_do_not() -> None:
    assert unify(CONST, [INT, flow_of(INT)]).is_flow
    assert not unify(CONST, [flow_of(list_of(INT)), list_of(INT)]).is_flow


def test_one_type_alone_is_left_as_it_is() -> None:
    delayed = flow_of(list_of(INT))
    assert unify(CONST, [delayed]) is delayed


_basic = st.sampled_from([INT, STRING, BOOL, FLOAT, FILE, DIR])
_names = st.sampled_from("abc")
types = st.recursive(
    _basic,
    lambda inner: st.one_of(
        inner.map(list_of),
        st.tuples(st.sampled_from([INT, STRING]), inner).map(lambda pair: map_of(*pair)),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: tuple_of(unnamed(*each))),
        st.dictionaries(_names, inner, min_size=1, max_size=3).map(lambda each: struct_of(fields(**each))),
        st.dictionaries(st.sampled_from("ABC"), st.none() | inner, min_size=1, max_size=3).map(
            lambda each: variants(**each)
        ),
        st.tuples(inner, inner).map(lambda pair: func_of(unnamed(pair[0]), pair[1])),
    ),
    max_leaves=6,
)


@given(types)
def test_every_type_is_its_own_subtype_and_common_supertype(type: Type) -> None:
    assert is_subtype(type, type)
    assert equal(type, type)
    assert equal(unify(CONST, [type, type]), type)


@given(types, types)
def test_the_common_supertype_is_above_both(left: Type, right: Type) -> None:
    unified = unify(CONST, [left, right])
    if not isinstance(unified, ErrorType):
        assert is_subtype(left, unified)
        assert is_subtype(right, unified)
        assert equal(unified, unify(CONST, [right, left]))


@given(types, types, types)
def test_subtyping_is_transitive(one: Type, two: Type, three: Type) -> None:
    if is_subtype(one, two) and is_subtype(two, three):
        assert is_subtype(one, three)
