from __future__ import annotations

import pytest

from reflow.lang.types import (
    BOTTOM,
    DIR,
    FILE,
    INT,
    STRING,
    TOP,
    UNIT,
    ErrorType,
    ModuleType,
    Type,
    VariantType,
    equal,
    flow_of,
    func_of,
    is_exported,
    labelled,
    list_of,
    map_of,
    module_of,
    ref,
    struct_of,
    sum_of,
    tuple_of,
)
from tests.typeparts import fields, unnamed, variants


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (list_of(struct_of(fields(a=UNIT, b=UNIT))), "[{a, b unit}]"),
        (struct_of(fields(a=INT, b=INT, c=STRING)), "{a, b int, c string}"),
        (tuple_of(unnamed(INT, STRING)), "(int, string)"),
        (tuple_of(fields(x=STRING, y=STRING, z=INT)), "(x, y string, z int)"),
        (func_of([*fields(x=INT), *fields(f=func_of(unnamed(INT), STRING))], STRING), None),
        (map_of(STRING, INT), "[string:int]"),
        (map_of(TOP, BOTTOM), "[top:bottom]"),
        (labelled("out", FILE), "(out file)"),
        (list_of(labelled("out", FILE)), "[(out file)]"),
        (variants(A=None, B=INT), "#A | #B(int)"),
        (module_of(fields(X=INT), fields(T=STRING)), "module{X int, type T string}"),
        (module_of([], fields(T=STRING)), "module{, type T string}"),
        (ref(["a", "b"]), "a.b"),
        (struct_of(fields(a=ref(["t"]), b=ref(["t"]))), "{a, b t}"),
        (ErrorType("no such thing"), "error: no such thing"),
        (ErrorType(""), "error"),
        (flow_of(DIR), "dir"),
    ],
)
def test_types_print_as_they_are_written(type: Type, text: str | None) -> None:
    assert str(type) == (text or "func(x int, f func(int) string) string")


@pytest.mark.parametrize(
    ("type", "message"),
    [
        (list_of(ErrorType("bad")), "bad"),
        (func_of(fields(a=ErrorType("argument")), ErrorType("result")), "result"),
        (map_of(list_of(INT), INT), "[int] is not a valid map key type"),
        (map_of(ErrorType("bad"), INT), "error: bad is not a valid map key type"),
        (sum_of([]), "sum types must have at least one variant"),
        (variants(one=None), 'tag "one" does not begin with uppercase'),
        (sum_of([VariantType("")]), "tag must be non-empty"),
        (sum_of([VariantType("A"), VariantType("A", INT)]), 'tag "A" is not unique'),
    ],
)
def test_what_is_wrong_when_a_type_is_made(type: Type, message: str) -> None:
    assert isinstance(type, ErrorType)
    assert type.message == message


def test_tags_may_begin_with_letters_that_have_no_case() -> None:
    assert str(variants(日=None)) == "#日"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (struct_of(fields(a=INT, b=STRING)), struct_of(fields(b=STRING, a=INT))),
        (tuple_of(fields(a=INT)), tuple_of(unnamed(INT))),
        (labelled("x", FILE), flow_of(FILE)),
        (variants(A=INT, B=None), variants(B=None, A=INT)),
        (func_of(fields(a=INT), STRING), func_of(fields(b=INT), STRING)),
        (module_of(fields(a=INT), fields(T=INT)), module_of(fields(a=INT))),
        (ref(["a", "b"]), ref(["a", "b"])),
    ],
)
def test_names_of_arguments_order_and_side_attributes_do_not_count_in_equality(
    left: Type, right: Type
) -> None:
    assert equal(left, right)
    assert equal(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (struct_of(fields(a=INT)), struct_of(fields(a=INT, b=INT))),
        (struct_of(fields(a=INT)), struct_of(fields(b=INT))),
        (struct_of(fields(a=INT)), module_of(fields(a=INT))),
        (tuple_of(unnamed(INT)), tuple_of(unnamed(INT, INT))),
        (list_of(BOTTOM), list_of(INT)),
        (map_of(STRING, INT), map_of(INT, INT)),
        (variants(A=INT, B=None), variants(A=INT)),
        (variants(A=INT, B=None), variants(A=INT, C=None)),
        (variants(A=INT), variants(A=None)),
        (variants(A=INT), variants(A=STRING)),
        (func_of(unnamed(INT), INT), func_of(unnamed(STRING), INT)),
        (ErrorType("x"), ErrorType("x")),
    ],
)
def test_types_that_are_not_equal(left: Type, right: Type) -> None:
    assert not equal(left, right)
    assert not equal(right, left)


def test_an_error_is_not_even_equal_to_itself() -> None:
    error = ErrorType("x")
    assert not equal(error, error)


def test_a_copy_shares_everything_but_what_was_replaced() -> None:
    original = struct_of(fields(a=INT))
    copy = labelled("x", original)
    assert (copy.label, original.label) == ("x", "")
    assert equal(copy, original)


def test_of_fields_with_one_name_the_first_is_looked_up() -> None:
    module = module_of([*fields(a=INT), *fields(a=STRING)])
    assert isinstance(module, ModuleType)
    assert module.field("a") is INT


@pytest.mark.parametrize(
    ("name", "exported"), [("Main", True), ("main", False), ("Éa", True), ("日", False), ("", False)]
)
def test_names_that_begin_with_uppercase_are_exported(name: str, exported: bool) -> None:
    assert is_exported(name) is exported
