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

Float = Any
"""An ``mpfr``."""

FLOAT_BITS = 64
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


class _Library:
    """gmpy2 with one context per precision; made when the first float is met."""

    _made: _Library | None = None

    def __init__(self) -> None:
        import gmpy2

        self.mpfr = gmpy2.mpfr
        self.is_nan = gmpy2.is_nan
        self.is_inf = gmpy2.is_infinite
        self.is_signed = gmpy2.is_signed
        self._context = gmpy2.context
        self.contexts: dict[int, Any] = {}

    @classmethod
    def get(cls) -> _Library:
        made = cls._made
        if made is None:
            made = cls._made = _Library()
        return made

    def context(self, bits: int) -> Any:
        """The context that rounds to so many bits."""
        context = self.contexts.get(bits)
        if context is None:
            context = self.contexts[bits] = self._context(precision=bits)
        return context


_NAN_TEXTS = {
    "+": "infinities of opposite sign cannot be added",
    "-": "infinities of the same sign cannot be subtracted",
    "*": "zero cannot be multiplied by infinity",
    "/": "zero cannot be divided by zero, nor infinity by infinity",
}
_METHODS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


def float_operation(op: str, left: Float, right: Float) -> Float:
    """``left op right`` for ``+ - * /``."""
    library = _Library.get()
    bits = left.precision
    if right.precision > bits:
        bits = right.precision
    result = getattr(library.context(bits), _METHODS[op])(left, right)
    if library.is_nan(result):
        raise NumberError(_NAN_TEXTS[op])
    return result


def negate(value: Float) -> Float:
    """``-value``, exactly."""
    return _Library.get().context(value.precision).minus(value)


def from_int(value: int) -> Float:
    """What ``float(value)`` is: low 64 bits as a signed integer, rounded to 53 bits."""
    return _Library.get().mpfr(index_64(value), CONVERTED_BITS)


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


_BASES = {"b": 2, "o": 8, "x": 16}
_DIGITS = {2: "01", 8: "0-7", 10: "0-9", 16: "0-9a-fA-F"}
_EXPONENT = re.compile(r"([eEpP])([+-]?)([0-9]*)")
_MAX_EXPONENT = (1 << 31) - 1


def parse_float(text: str, base: int = 0) -> Float:
    """Read a float, of 64 bits. ``base`` 0 allows the prefixes 0b, 0o and 0x; 10 does not.

    Raises ValueError with the original's texts. Source: math/big, (*Float).Parse.
    """
    if not text:
        raise ValueError("EOF")
    library = _Library.get()
    if text.lstrip("+-") in ("Inf", "inf") and len(text) <= 4:
        return library.mpfr("-inf" if text[0] == "-" else "inf", FLOAT_BITS)
    sign, rest = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    radix = 10
    if base == 0 and rest[:1] == "0" and rest[1:2].lower() in _BASES:
        radix, rest = _BASES[rest[1:2].lower()], rest[2:]
    mantissa = _take(rf"[{_DIGITS[radix]}]*\.?[{_DIGITS[radix]}]*", rest)
    if mantissa in ("", "."):
        raise ValueError("number has no digits")
    marker, exponent, end = _exponent(rest, len(mantissa))
    if end < len(rest):
        raise ValueError(f"expected end of string, found {quote_char(rest[end])}")
    return _assemble(sign, mantissa, radix, marker, exponent)


_ESCAPES = {
    "'": "\\'",
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote_char(char: str) -> str:
    """A character in single quotes, as the original shows a byte."""
    named = _ESCAPES.get(char)
    if named is not None:
        return f"'{named}'"
    code = char.encode("utf-8", "surrogateescape")[0]
    if 0x20 <= code < 0x7F:
        return f"'{char}'"
    return f"'\\x{code:02x}'" if code < 0x20 or code == 0x7F else _quote_latin(code)


def _quote_latin(code: int) -> str:
    char = chr(code)
    return f"'{char}'" if char.isprintable() and code != 0xA0 else f"'\\u{code:04x}'"


def _take(pattern: str, text: str) -> str:
    found = re.match(pattern, text)
    assert found is not None, "the pattern matches nothing at least"
    return found.group()


def _exponent(text: str, at: int) -> tuple[str, int, int]:
    """Marker, value and end of the exponent at an offset."""
    found = _EXPONENT.match(text, at)
    if found is None:
        return "e", 0, at
    marker, sign, digits = found.groups()
    if not digits:
        raise ValueError("number has no digits")
    exponent = int(sign + digits[:30])
    if abs(exponent) > _MAX_INT64:
        shown = sign.replace("+", "") + digits
        raise ValueError(f'strconv.ParseInt: parsing "{shown}": value out of range')
    return marker.lower(), exponent, found.end()


def _assemble(sign: str, mantissa: str, radix: int, marker: str, exponent: int) -> Float:
    library = _Library.get()
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return library.mpfr("-0" if sign == "-" else "0", FLOAT_BITS)
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError("exponent overflow")
    if radix == 10 and marker == "e":
        return library.mpfr(f"{sign}{mantissa}e{exponent}", FLOAT_BITS)
    return _assemble_exactly(sign, digits, len(fraction), radix, (marker, exponent))


def _assemble_exactly(
    sign: str, digits: str, fraction_digits: int, radix: int, exponent: tuple[str, int]
) -> Float:
    """A number whose radix and exponent's radix differ: one rounding of the mantissa, one of the product."""
    library = _Library.get()
    wide = library.context(FLOAT_BITS * 4 + 8 * len(digits))
    value = library.mpfr(int(_mpz_of(digits, radix)), wide.precision)
    for power, times in ((radix, -fraction_digits), (2 if exponent[0] == "p" else 10, exponent[1])):
        if times:
            value = wide.mul(value, wide.pow(library.mpfr(power, wide.precision), times))
    if sign == "-":
        value = wide.minus(value)
    return library.mpfr(value, FLOAT_BITS)


def _mpz_of(digits: str, radix: int) -> Any:
    import gmpy2

    return gmpy2.mpz(digits, radix)


# --------------------------------------------------------------------------------------------- texts


def general_text(value: Float, digits: int = 10) -> str:
    """``%g`` with so many significant digits: ``0.3333333333``, ``1e+10``, ``-0``, ``+Inf``.

    ``digits`` below 0 asks for the fewest that read back as the same float. Source: math/big, Float.Text.
    """
    sign, value = _split_sign(value)
    if _Library.get().is_inf(value):
        return f"{sign or '+'}Inf"
    wanted = digits if digits != 0 else 1
    mantissa, exponent = _shortest(value) if digits < 0 else _rounded(value, wanted)
    limit = 6 if digits < 0 else wanted
    if digits > len(mantissa) >= exponent:
        limit = len(mantissa)
    if not -4 <= exponent - 1 < limit:
        return sign + _scientific(mantissa, exponent)
    return sign + _plain(mantissa, exponent)


def exponent_text(value: Float) -> str:
    """The form that digests hash: ``1.2345000000e+00``, ten digits after the point."""
    sign, value = _split_sign(value)
    if _Library.get().is_inf(value):
        return f"{sign or '+'}Inf"
    mantissa, exponent = _rounded(value, 11)
    return sign + _scientific(mantissa.ljust(11, "0"), exponent)


def _split_sign(value: Float) -> tuple[str, Float]:
    """Sign and magnitude. (The library's own ``abs`` would round.)"""
    return ("-", negate(value)) if _Library.get().is_signed(value) else ("", value)


def _rounded(value: Float, count: int) -> tuple[str, int]:
    """Digits of a magnitude without trailing zeros, and the exponent of ``0.DIGITS``; ("", 1) for zero."""
    if not value:
        return "", 1
    if count == 1:
        return _rounded_to_one(value)
    exact = FLOAT_BITS + abs(value.as_mantissa_exp()[1]) + 8
    text, exponent, _ = value.digits(10, min(count, exact))
    return text.rstrip("0"), exponent


def _rounded_to_one(value: Float) -> tuple[str, int]:
    """One digit, which the library does not give: compare with the middle between two candidates."""
    library = _Library.get()
    text, exponent, _ = value.digits(10, 2)
    lead = int(text[0])
    middle = library.mpfr(f"{lead}.5e{exponent - 1}", 512)
    if value > middle or (value == middle and lead % 2):
        lead += 1
    return ("1", exponent + 1) if lead == 10 else (str(lead), exponent)


def _shortest(value: Float) -> tuple[str, int]:
    if not value:
        return "", 1
    library = _Library.get()
    for count in range(1, 24):
        text, exponent = _rounded(value, count)
        if library.mpfr(f"0.{text}e{exponent}", value.precision) == value:
            return text, exponent
    raise AssertionError("23 digits tell any two floats apart")


def _scientific(mantissa: str, exponent: int) -> str:
    mantissa = mantissa or "0"
    power = exponent - 1 if mantissa.strip("0") else 0
    point = "." if len(mantissa) > 1 else ""
    return f"{mantissa[0]}{point}{mantissa[1:]}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _plain(mantissa: str, exponent: int) -> str:
    if not mantissa:
        return "0"
    if exponent <= 0:
        return "0." + "0" * -exponent + mantissa
    whole = mantissa[:exponent].ljust(exponent, "0")
    return f"{whole}.{mantissa[exponent:]}" if len(mantissa) > exponent else whole
