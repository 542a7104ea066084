"""Numbers: integers without bound, and floats with a 64-bit mantissa.

A float is a gmpy2 ``mpfr``: 64 bits of precision when it comes from text, 53 when it is made from an
integer; an operation has the precision of its more precise operand and rounds to nearest, ties to even.
gmpy2 is imported when the first float is met. Magnitudes reach 2**(2**30). Impossible operations raise
`NumberError`; its text has no position.
Source: math/big of Go (Int, Float), as used by syntax/eval.go.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from reflow.lang.mpfr import Float, Library
from reflow.lang.number_text import exponent_text, general_text, parse_float, quote_char

__all__ = [
    "INT_OPS",
    "MAX_INT_BITS",
    "Float",
    "NumberError",
    "divide",
    "exponent_text",
    "float_operation",
    "from_int",
    "general_text",
    "index_64",
    "int_text",
    "low_64",
    "modulo",
    "multiply",
    "negate",
    "parse_float",
    "parse_int",
    "quote_char",
    "shift_left",
    "shift_right",
    "to_double",
    "to_int",
]

CONVERTED_BITS = 53
MAX_INT_BITS = 1 << 26
"""Integers that would be longer are refused: they only come from runaway shifts and products."""

_LOW_64 = (1 << 64) - 1
_MAX_INT64 = (1 << 63) - 1
_MIN_INT64 = -(1 << 63)
_PLAIN_INT_BITS = 1 << 13
"""Below this, Python's own arithmetic and printing are fastest."""


class NumberError(ArithmeticError):
    """An operation that has no result."""


# ------------------------------------------------------------------------------------------ integers


def divide(left: int, right: int) -> int:
    """Euclidean quotient: the remainder is never negative."""
    if right == 0:
        raise NumberError("division by zero")
    if _is_long(left):
        left = _mpz(left)
    return int(left // right if right > 0 else -(left // -right))


def modulo(left: int, right: int) -> int:
    """Euclidean remainder."""
    if right == 0:
        raise NumberError("division by zero")
    if _is_long(left):
        left = _mpz(left)
    return int(left % abs(right))


def multiply(left: int, right: int) -> int:
    """Product; refused beyond `MAX_INT_BITS`."""
    bits = left.bit_length() + right.bit_length()
    if bits < _PLAIN_INT_BITS:
        return left * right
    _check_size(bits)
    return int(_mpz(left) * right)


def shift_left(value: int, count: int) -> int:
    """``value << count`` for the low 64 bits of the count's magnitude; refused beyond `MAX_INT_BITS`."""
    count = abs(count) & _LOW_64
    if value == 0:
        return 0
    _check_size(value.bit_length() + count)
    return value << count


def shift_right(value: int, count: int) -> int:
    """Arithmetic shift by the low 64 bits of the count's magnitude."""
    return value >> min(abs(count) & _LOW_64, value.bit_length() + 1)


def low_64(value: int) -> int:
    """Low 64 bits of the magnitude, unsigned."""
    return abs(value) & _LOW_64


def index_64(value: int) -> int:
    """The integer as a signed 64-bit one: low bits of the magnitude, with the sign kept (Go's Int64)."""
    low = abs(value) & _LOW_64
    if value < 0:
        low = -low & _LOW_64
    return low - (1 << 64) if low > _MAX_INT64 else low


def int_text(value: int) -> str:
    """Decimal digits, however many."""
    return str(_mpz(value)) if _is_long(value) else str(value)


def parse_int(digits: str) -> int:
    """An integer in decimal, with an optional sign. Raises ValueError for anything else."""
    if not re.fullmatch(r"[+-]?[0-9]+", digits):
        raise ValueError(f"invalid integer {digits!r}")
    return int(_mpz(digits)) if len(digits) > 1000 else int(digits)


INT_OPS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "<<": shift_left,
    ">>": shift_right,
}


def _is_long(value: int) -> bool:
    return value.bit_length() > _PLAIN_INT_BITS


def _mpz(value: int | str) -> Any:
    import gmpy2

    return gmpy2.mpz(value)


def _check_size(bits: int) -> None:
    if bits > MAX_INT_BITS:
        raise NumberError(f"integer of {bits} bits is too large, the limit is {MAX_INT_BITS} bits")


# -------------------------------------------------------------------------------------------- floats

_NAN_TEXTS = {
    "+": "infinities of opposite sign cannot be added",
    "-": "infinities of the same sign cannot be subtracted",
    "*": "zero cannot be multiplied by infinity",
    "/": "zero cannot be divided by zero, nor infinity by infinity",
}
_METHODS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


def float_operation(op: str, left: Float, right: Float) -> Float:
    """``left op right`` for ``+ - * /``."""
    library = Library.get()
    bits = left.precision
    if right.precision > bits:
        bits = right.precision
    result = getattr(library.context(bits), _METHODS[op])(left, right)
    if library.is_nan(result):
        raise NumberError(_NAN_TEXTS[op])
    return result


def negate(value: Float) -> Float:
    """``-value``, exactly."""
    return Library.get().context(value.precision).minus(value)


def from_int(value: int) -> Float:
    """What ``float(value)`` is: low 64 bits as a signed integer, rounded to 53 bits."""
    return Library.get().mpfr(index_64(value), CONVERTED_BITS)


def to_int(value: Float) -> int:
    """What ``int(value)`` is: towards zero, held within signed 64 bits."""
    if value >= _MAX_INT64:
        return _MAX_INT64
    if value <= _MIN_INT64:
        return _MIN_INT64
    mantissa, exponent = value.as_mantissa_exp()
    size = int(abs(mantissa))
    size = size << int(exponent) if exponent > 0 else size >> int(-exponent)
    return -size if mantissa < 0 else size


def to_double(value: Float) -> float:
    """The nearest double."""
    return float(value)
