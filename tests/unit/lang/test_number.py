"""Integers and floats: arithmetic, texts, limits. Expected texts were printed by Go's math/big."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.lang import number
from reflow.lang.number import (
    MAX_INT_BITS,
    NumberError,
    divide,
    exponent_text,
    float_operation,
    general_text,
    index_64,
    int_text,
    modulo,
    multiply,
    parse_float,
    parse_int,
    shift_left,
    shift_right,
)

INTEGERS = st.integers(-(1 << 80), 1 << 80)


@given(INTEGERS, INTEGERS.filter(bool))
def test_division_is_euclidean(left: int, right: int) -> None:
    quotient, rest = divide(left, right), modulo(left, right)
    assert quotient * right + rest == left
    assert 0 <= rest < abs(right)


@pytest.mark.parametrize(
    ("left", "right", "quotient", "rest"), [(-7, 2, -4, 1), (7, -2, -3, 1), (-7, -2, 4, 1), (7, 3, 2, 1)]
)
def test_division_rounds_so_that_the_rest_is_positive(
    left: int, right: int, quotient: int, rest: int
) -> None:
    assert (divide(left, right), modulo(left, right)) == (quotient, rest)


def test_long_integers_divide_as_short_ones() -> None:
    left, right = -(3**9000), 7**4000
    assert divide(left, right) * right + modulo(left, right) == left


@pytest.mark.parametrize("operation", [divide, modulo])
def test_division_by_zero_is_an_error(operation: object) -> None:
    assert callable(operation)
    with pytest.raises(NumberError, match="division by zero"):
        operation(1, 0)


def test_shifts_use_the_magnitude_of_the_count() -> None:
    assert shift_left(1, -1) == 2
    assert shift_right(-9, 1) == -5
    assert shift_right(40, -3) == 5
    assert shift_right(-1, 1 << 63) == -1
    assert shift_left(0, 1 << 60) == 0


def test_shift_count_has_64_bits() -> None:
    assert shift_left(3, (1 << 64) + 2) == 12


def test_integers_have_a_limit() -> None:
    with pytest.raises(NumberError, match=f"the limit is {MAX_INT_BITS} bits"):
        shift_left(1, 10_000_000_000)
    huge = shift_left(1, MAX_INT_BITS // 2 + 1)
    with pytest.raises(NumberError, match="too large"):
        multiply(huge, huge)


def test_long_integers_multiply_exactly() -> None:
    assert multiply(3**9000, -(5**9000)) == -(15**9000)


def test_long_integers_print_and_parse_beyond_pythons_limit() -> None:
    assert sys.get_int_max_str_digits() < 20_000
    digits = "1" + "0" * 20_000
    assert int_text(10**20_000) == digits
    assert int_text(-(10**20_000)) == "-" + digits
    assert parse_int(digits) == 10**20_000


@pytest.mark.parametrize("text", ["", "+", "1_0", "0x1", "1.0", "٣"])
def test_malformed_integers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid integer"):
        parse_int(text)


@pytest.mark.parametrize(
    ("value", "low"), [(5, 5), (-5, -5), ((1 << 64) - 1, -1), (-(1 << 64) + 1, 1), (1 << 63, -(1 << 63))]
)
def test_index_is_the_low_64_bits_signed(value: int, low: int) -> None:
    assert index_64(value) == low


@pytest.mark.parametrize(
    ("source", "general", "exponent", "shortest", "one", "three", "many"),
    [
        ("0", "0", "0.0000000000e+00", "0", "0", "0", "0"),
        ("-0", "-0", "-0.0000000000e+00", "-0", "-0", "-0", "-0"),
        ("1", "1", "1.0000000000e+00", "1", "1", "1", "1"),
        ("1.5", "1.5", "1.5000000000e+00", "1.5", "2", "1.5", "1.5"),
        ("2.5", "2.5", "2.5000000000e+00", "2.5", "2", "2.5", "2.5"),
        ("0.1", "0.1", "1.0000000000e-01", "0.1", "0.1", "0.1", "0.1000000000000000000013553"),
        ("1e10", "1e+10", "1.0000000000e+10", "1e+10", "1e+10", "1e+10", "10000000000"),
        (
            "12345678901",
            "1.23456789e+10",
            "1.2345678901e+10",
            "1.2345678901e+10",
            "1e+10",
            "1.23e+10",
            "12345678901",
        ),
        ("9999999999.5", "1e+10", "9.9999999995e+09", "9.9999999995e+09", "1e+10", "1e+10", "9999999999.5"),
        ("1234567890", "1234567890", "1.2345678900e+09", "1.23456789e+09", "1e+09", "1.23e+09", "1234567890"),
        (
            "0.0001",
            "0.0001",
            "1.0000000000e-04",
            "0.0001",
            "0.0001",
            "0.0001",
            "0.0001000000000000000000011435",
        ),
        ("1e-5", "1e-05", "1.0000000000e-05", "1e-05", "1e-05", "1e-05", "9.999999999999999999948913e-06"),
        ("-1.25", "-1.25", "-1.2500000000e+00", "-1.25", "-1", "-1.25", "-1.25"),
        ("Inf", "+Inf", "+Inf", "+Inf", "+Inf", "+Inf", "+Inf"),
        ("-inf", "-Inf", "-Inf", "-Inf", "-Inf", "-Inf", "-Inf"),
    ],
)
def test_floats_print_as_in_go(
    source: str, general: str, exponent: str, shortest: str, one: str, three: str, many: str
) -> None:
    value = parse_float(source)
    assert general_text(value) == general
    assert exponent_text(value) == exponent
    assert [general_text(value, digits) for digits in (-1, 1, 3, 25)] == [shortest, one, three, many]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shortest_text_reads_back_as_the_same_float(value: float) -> None:
    parsed = parse_float(repr(value))
    assert parse_float(general_text(parsed, -1)) == parsed


@pytest.mark.parametrize(
    ("source", "text"), [("0x1p4", "16"), ("0x1.8p4", "24"), ("0b11", "3"), ("0o17", "15"), ("1p10", "1024")]
)
def test_floats_may_have_other_bases(source: str, text: str) -> None:
    assert general_text(parse_float(source)) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "EOF"),
        ("abc", "number has no digits"),
        ("1e", "number has no digits"),
        ("+", "number has no digits"),
        ("0x", "number has no digits"),
        ("1x", "expected end of string, found 'x'"),
        ("1.2.3", "expected end of string, found '.'"),
        ("1\n", "expected end of string, found '\\n'"),
        (
            "1e99999999999999999999",
            'strconv.ParseInt: parsing "99999999999999999999": value out of range',
        ),
        ("1e3000000000", "exponent overflow"),
    ],
)
def test_malformed_floats_are_refused_with_gos_words(source: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared whole)
        parse_float(source)
    assert str(caught.value) == message


def test_mantissas_have_64_bits() -> None:
    third = float_operation("/", parse_float("1"), parse_float("3"))
    assert float_operation("*", third, parse_float("3")) == parse_float("1")
    assert float_operation("+", parse_float("0.1"), parse_float("0.2")) == parse_float("0.3")
    assert parse_float("18446744073709551615.0") != parse_float("18446744073709551616.0")


def test_converted_integers_have_53_bits() -> None:
    assert number.from_int((1 << 53) + 1) == number.from_int(1 << 53)
    assert number.from_int(1 << 63) == parse_float("-9223372036854775808")


def test_the_more_precise_operand_decides() -> None:
    mixed = float_operation("/", number.from_int(1), parse_float("3.0"))
    narrow = float_operation("/", number.from_int(1), number.from_int(3))
    assert mixed == float_operation("/", parse_float("1.0"), parse_float("3.0"))
    assert mixed != narrow


@pytest.mark.parametrize(
    ("left", "op", "right"), [("0", "/", "0"), ("inf", "-", "inf"), ("inf", "*", "0"), ("inf", "/", "-inf")]
)
def test_what_is_no_number_is_an_error(left: str, op: str, right: str) -> None:
    with pytest.raises(NumberError):
        float_operation(op, parse_float(left), parse_float(right))


def test_division_by_zero_is_infinite() -> None:
    assert general_text(float_operation("/", parse_float("-1"), parse_float("0"))) == "-Inf"


def test_negation_is_exact() -> None:
    value = parse_float("0.1")
    assert number.negate(number.negate(value)) == value
    assert number.negate(value).precision == 64


@pytest.mark.parametrize(
    ("source", "integer"),
    [("2.9", 2), ("-2.9", -2), ("1e30", (1 << 63) - 1), ("-inf", -(1 << 63)), ("1e15", 10**15), ("0.5", 0)],
)
def test_conversion_to_integers_truncates_and_saturates(source: str, integer: int) -> None:
    assert number.to_int(parse_float(source)) == integer
