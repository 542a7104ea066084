"""Numbers and strings of the source text, from their spelling to their value.

Source: syntax/parse.go, (*Parser).Lex; strings as Go's strconv.Unquote reads them.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_PLAIN_DIGITS = 640
"""Up to here Python's own conversion is quick, and no limit of Python's can be in its way."""


class LiteralError(Exception):
    """A literal that has no value; ``remarks`` are what a scanner would say of it on the side."""

    def __init__(self, message: str, remarks: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.remarks = remarks


def read_int(text: str) -> int:
    """The integer that decimal digits spell; a zero in front means nothing."""
    if not text.isdigit():
        remarks = ("illegal hexadecimal number",) if len(text) == 2 else ()
        raise LiteralError(f'failed to parse integer "{text}"', remarks)
    if len(text) <= _PLAIN_DIGITS:
        return int(text)
    import gmpy2  # 30 ms, and only a hostile text needs it: Python's conversion is quadratic

    return int(gmpy2.mpz(text, 10))


def read_float(text: str) -> Any:
    """The number with a 64-bit mantissa that is nearest to a decimal fraction."""
    from reflow.lang.number import parse_float  # loads gmpy2

    try:
        return parse_float(text)
    except ValueError as err:
        raise LiteralError(f'failed to parse float "{text}": {err}') from err


_SIMPLE = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
    b'"': b'"',
}
_ESCAPE = re.compile(
    rb'\\(?:([abfnrtv\\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)'
)
_ESCAPE_BEGINS = re.compile(
    r"([abfnrtv\\]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
    r"|[0-7]{1,2}|x[0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7}"
)
"""What a scanner takes for an escape, behind its backslash; the group is one with all of its digits."""
_NOT_TERMINATED = "literal not terminated"
_UNDECODED = re.compile("[\udc80-\udcff]")
_CLOSED = re.compile(r'"(?:[^"\\\n]++|\\(?:"|\\|(?!["\\])))*+"')


def read_string(text: str) -> bytes:
    """The bytes that a string token stands for, its quotes given."""
    if text[:1] == "`":
        if len(text) < 2 or text[-1] != "`":
            raise _unquotable(text, [_NOT_TERMINATED])
        return text[1:-1].replace("\r", "").encode("utf-8", "surrogateescape")
    if not _CLOSED.fullmatch(text):
        raise _unquotable(text, scanned(text)[0])
    body = text[1:-1]
    try:
        data = body.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 become the replacement character, one each
        data = _UNDECODED.sub("\ufffd", body).encode()
    if b"\\" not in data:
        return data
    try:
        return _ESCAPE.sub(_unescape, data)
    except ValueError:
        raise _unquotable(text, scanned(text)[0]) from None


def _unescape(match: re.Match[bytes]) -> bytes:
    simple, octal, byte, short, long = match.groups()
    if simple:
        return _SIMPLE[simple]
    if byte:
        return bytes.fromhex(byte.decode())
    if octal:
        return bytes([int(octal, 8)])
    digits = short or long
    if not digits:
        raise ValueError
    code = int(digits, 16)
    if code > sys.maxunicode:
        raise ValueError
    return chr(code).encode()  # a UnicodeEncodeError, of a surrogate, is a ValueError


def _unquotable(text: str, remarks: list[str]) -> LiteralError:
    return LiteralError(f'failed to unquote string "{text}": invalid syntax', tuple(remarks))


def character_remarks(text: str) -> list[str]:
    """What a scanner says of a character in single quotes; such literals have no meaning here."""
    remarks, count = scanned(text)
    return [*remarks, "illegal char literal"] if count != 1 else remarks


def scanned(text: str) -> tuple[list[str], int]:
    """What a scanner says of a literal that begins with a quote, and how many characters are in it.

    Not of escapes that are written as they should be, but mean no character.
    Source: text/scanner of Go, scanString.
    """
    remarks: list[str] = []
    at, count = 1, 0
    while text[at : at + 1] != text[0]:
        if text[at : at + 1] in ("", "\n"):
            return [*remarks, _NOT_TERMINATED], count
        if text[at] != "\\":
            at += 1
        elif text[at + 1 : at + 2] == text[0]:
            at += 2
        else:
            escape = _ESCAPE_BEGINS.match(text, at + 1)
            at = at + 1 if escape is None else escape.end()
            if escape is None or escape[1] is None:
                remarks.append("illegal char escape")
        count += 1
    return remarks, count
