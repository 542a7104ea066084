"""``$/strings``. Strings are bytes.

Source: syntax/stdlib.go, stringsDecls.
"""

from __future__ import annotations

from reflow.lang import number
from reflow.lang.builtins.func import Mode, Native
from reflow.lang.diagnostic import EvalError
from reflow.lang.extent import check_string
from reflow.lang.value import CallSite, Value

_LONGEST_CHARACTER_BYTES = 4
_MOST_DIGITS = 1 << 20


def split(args: list[Value], site: CallSite) -> list[bytes]:
    """Pieces between separators; characters when the separator is empty."""
    text, separator = args
    if separator:
        pieces: list[bytes] = text.split(separator)
        return pieces
    return [char.encode("utf-8", "surrogateescape") for char in text.decode("utf-8", "surrogateescape")]


def chunk(args: list[Value], site: CallSite) -> list[bytes]:
    """Greedy pieces of at most so many bytes; a stray byte becomes U+FFFD unless the text fits as a whole."""
    text, limit = args[0], number.index_64(args[1])
    if limit < _LONGEST_CHARACTER_BYTES:
        raise EvalError(f"strings.Chunks: maxLen {limit} must be >= {_LONGEST_CHARACTER_BYTES}")
    if len(text) <= limit:
        return [text]
    pieces = []
    current = bytearray()
    for char in text.decode("utf-8", "surrogateescape"):
        encoded = "\ufffd".encode() if "\udc80" <= char <= "\udcff" else char.encode()
        if len(current) + len(encoded) > limit:
            pieces.append(bytes(current))
            current.clear()
        current += encoded
    pieces.append(bytes(current))
    return pieces


def join(args: list[Value], site: CallSite) -> bytes:
    """The strings with the separator between them."""
    pieces, separator = args
    check_string(sum(map(len, pieces)) + len(separator) * len(pieces))
    joined: bytes = separator.join(pieces)
    return joined


def has_prefix(args: list[Value], site: CallSite) -> bool:
    """Whether the string begins so."""
    return bool(args[0].startswith(args[1]))


def has_suffix(args: list[Value], site: CallSite) -> bool:
    """Whether the string ends so."""
    return bool(args[0].endswith(args[1]))


def sort(args: list[Value], site: CallSite) -> list[bytes]:
    """In byte order."""
    return sorted(args[0])


def from_int(args: list[Value], site: CallSite) -> bytes:
    """Decimal digits."""
    return number.int_text(args[0]).encode()


def from_float(args: list[Value], site: CallSite) -> bytes:
    """So many significant digits; the fewest that tell the float from others when negative."""
    digits = number.index_64(args[1])
    if digits > _MOST_DIGITS:
        raise EvalError(f"strings.FromFloat: {digits} digits are too many, the limit is {_MOST_DIGITS}")
    return number.general_text(args[0], digits).encode()


def to_float(args: list[Value], site: CallSite) -> number.Float:
    """A decimal float at 64 bits."""
    try:
        return number.parse_float(args[0].decode("utf-8", "surrogateescape"), 10)
    except ValueError as err:
        raise EvalError(str(err)) from err


FUNCTIONS = {
    "Split": Native(split),
    "Chunk": Native(chunk),
    "Join": Native(join, Mode.FORCED),
    "HasPrefix": Native(has_prefix),
    "HasSuffix": Native(has_suffix),
    "Sort": Native(sort, Mode.FORCED),
    "FromInt": Native(from_int, Mode.FORCED),
    "FromFloat": Native(from_float, Mode.FORCED),
    "ToFloat": Native(to_float, Mode.FORCED),
}
