"""Where Go and RE2 read an expression differently, and Go's words for what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Callable

_CAUSES = {
    "unexpected error": "regexp/syntax: internal error",
    "invalid escape sequence": "invalid escape sequence",
    "invalid character class": "invalid character class",
    "invalid character class range": "invalid character class range",
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid UTF-8": "invalid UTF-8",
    "invalid named capture group": "invalid named capture",
}
_UNKNOWN_ESCAPES = "yijgheklmoquyGHIJKLMNORTUVXY"
_MAX_REPEAT = 1000

_PIECE = re.compile(
    rb"""\\Q.*?(?:\\E|\Z)               # quoted text
    |\\.                                # an escape
    |\[\^?\]?(?:\[:\^?\w*:\]|\\.|[^]\\])*(?:\]|\Z)   # a class
    |\(\?<[=!]                          # what is look-behind elsewhere
    |.""",
    re.VERBOSE | re.DOTALL,
)
_REPEAT = re.compile(r"(\{(\d+)(?:(,)(\d*))?\})\??\Z")
_LAST_HEX = re.compile(rb"\\x\{[0-9a-fA-F]*\Z")


def explain(pattern: bytes, message: bytes) -> str:
    """Go's text for an error that RE2 reports as ``CAUSE: PART`` or ``CAUSE``."""
    text = message.decode("utf-8", "surrogateescape")
    cause, _, part = text.partition(": ")
    if cause == "invalid UTF-8":
        return _explain_encoding(pattern)
    if cause == "invalid perl operator" and part in ("(?<=", "(?<!"):
        return _explain_lookbehind(pattern)
    if cause == "bad repetition operator":
        repeat = _too_large(part)
        if repeat:
            return error_text("invalid repeat count", repeat)
    if cause == "invalid escape sequence" and part in ("\\p", "\\P") and pattern.endswith(part.encode()):
        return error_text("invalid character class range", part)
    if cause == "invalid repetition size":
        part = _too_large(part) or part
    if text.startswith("pattern too large"):
        return error_text("expression too large", pattern.decode("utf-8", "surrogateescape"))
    return error_text(_CAUSES.get(cause, cause), part)


def error_text(cause: str, part: str) -> str:
    """An error as Go prints it."""
    return f"error parsing regexp: {cause}: `{part}`"


def hide_byte_escapes(pattern: bytes) -> tuple[bytes, Callable[[str], str]]:
    r"""Replace ``\C``, which only RE2 knows, by an escape that neither knows.

    Also returns what turns an error about the result into one about ``pattern``.
    """
    if b"\\C" not in pattern or not any(piece[0] == b"\\C" for piece in _PIECE.finditer(pattern)):
        return pattern, str
    letter = next(char for char in _UNKNOWN_ESCAPES if char.encode() not in pattern)
    stand_in = "\\" + letter
    return pattern.replace(b"\\C", stand_in.encode()), lambda text: text.replace(stand_in, "\\C")


def _explain_encoding(pattern: bytes) -> str:
    """RE2 also says that the encoding is wrong when ``\\x{`` ends the expression."""
    tail = _LAST_HEX.search(pattern)
    return _invalid_utf8(pattern) or error_text("invalid escape sequence", tail[0].decode() if tail else "")


def _invalid_utf8(part: bytes) -> str:
    """The error for the first byte that is no UTF-8, or nothing."""
    try:
        part.decode()
    except UnicodeDecodeError as err:
        return error_text("invalid UTF-8", part[err.start :].decode("utf-8", "surrogateescape"))
    return ""


def _explain_lookbehind(pattern: bytes) -> str:
    """Go takes ``(?<`` for the start of a name."""
    start = next(piece.start() for piece in _PIECE.finditer(pattern) if piece[0].startswith(b"(?<"))
    end = pattern.find(b">", start)
    name = pattern[start:] if end < 0 else pattern[start : end + 1]
    return _invalid_utf8(name) or error_text("invalid named capture", name.decode())


def _too_large(operators: str) -> str:
    """The last of some repetition operators if its counts are out of range."""
    last = _REPEAT.search(operators)
    if last is None:
        return ""
    low = int(last[2])
    high = low if last[3] is None or not last[4] else int(last[4])
    return last[1] if low > _MAX_REPEAT or high > _MAX_REPEAT or high < low else ""
