"""Floats read from text and written as text. Source: math/big of Go, (*Float).Parse and Text."""

from __future__ import annotations

import re
from typing import Any

from reflow.lang.mpfr import FLOAT_BITS, Float, Library

_BASES = {"b": 2, "o": 8, "x": 16}
_DIGITS = {2: "01", 8: "0-7", 10: "0-9", 16: "0-9a-fA-F"}
_EXPONENT = re.compile(r"([eEpP])([+-]?)([0-9]*)")
_MAX_EXPONENT = (1 << 31) - 1
_MAX_INT64 = (1 << 63) - 1


def parse_float(text: str, base: int = 0) -> Float:
    """Read a float, of 64 bits. ``base`` 0 allows the prefixes 0b, 0o and 0x; 10 does not.

    Raises ValueError with the original's texts. Source: math/big, (*Float).Parse.
    """
    if not text:
        raise ValueError("EOF")
    library = Library.get()
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
    exponent = int(sign + (digits.lstrip("0")[:30] or "0"))
    if abs(exponent) > _MAX_INT64:
        shown = sign.replace("+", "") + digits
        raise ValueError(f'strconv.ParseInt: parsing "{shown}": value out of range')
    return marker.lower(), exponent, found.end()


def _assemble(sign: str, mantissa: str, radix: int, marker: str, exponent: int) -> Float:
    library = Library.get()
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
    library = Library.get()
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


def general_text(value: Float, digits: int = 10) -> str:
    """``%g`` with so many significant digits: ``0.3333333333``, ``1e+10``, ``-0``, ``+Inf``.

    ``digits`` below 0 asks for the fewest that read back as the same float. Source: math/big, Float.Text.
    """
    sign, value = _split_sign(value)
    if Library.get().is_inf(value):
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
    if Library.get().is_inf(value):
        return f"{sign or '+'}Inf"
    mantissa, exponent = _rounded(value, 11)
    return sign + _scientific(mantissa.ljust(11, "0"), exponent)


def _split_sign(value: Float) -> tuple[str, Float]:
    """Sign and magnitude. (The library's own ``abs`` would round.)"""
    library = Library.get()
    if library.is_signed(value):
        return "-", library.context(value.precision).minus(value)
    return "", value


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
    library = Library.get()
    text, exponent, _ = value.digits(10, 2)
    lead = int(text[0])
    middle = library.mpfr(f"{lead}.5e{exponent - 1}", 512)
    if value > middle or (value == middle and lead % 2):
        lead += 1
    return ("1", exponent + 1) if lead == 10 else (str(lead), exponent)


def _shortest(value: Float) -> tuple[str, int]:
    if not value:
        return "", 1
    library = Library.get()
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
