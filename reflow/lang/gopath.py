"""Paths as Go's ``path`` package treats them: slash-separated byte strings, and glob patterns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from reflow.lang.diagnostic import EvalError

_SLASH = 0x2F
_REPLACEMENT = 0xFFFD


def base(path: bytes) -> bytes:
    """The last element, trailing slashes aside; ``.`` of nothing, ``/`` of slashes alone."""
    if not path:
        return b"."
    return path.rstrip(b"/").rpartition(b"/")[2] or b"/"


def split_dir(path: bytes) -> bytes:
    """Everything up to and with the last slash."""
    return path[: path.rfind(b"/") + 1]


def extension(path: bytes) -> bytes:
    """From the last dot of the last element on; nothing without one."""
    name = path[path.rfind(b"/") + 1 :]
    dot = name.rfind(b".")
    return name[dot:] if dot >= 0 else b""


class _Class:
    """``[a-z]`` or ``[^a-z]``."""

    __slots__ = ("is_negated", "ranges")

    def __init__(self, ranges: Sequence[tuple[int, int]], *, is_negated: bool) -> None:
        self.ranges = tuple(ranges)
        self.is_negated = is_negated

    def has(self, char: int) -> bool:
        """Whether a character is in it."""
        return any(low <= char <= high for low, high in self.ranges) != self.is_negated


_ANY = _Class((), is_negated=True)
_Item = int | _Class
_Chunk = tuple[bool, tuple[_Item, ...]]


class Glob:
    """A pattern: ``*`` and ``?`` stop at slashes, classes do not."""

    __slots__ = ("_chunks",)

    def __init__(self, pattern: bytes) -> None:
        self._chunks = _parse(pattern)

    def is_match(self, name: bytes) -> bool:
        """Tell whether it matches all of ``name``. Each part between stars takes its first chance."""
        at = 0
        last = len(self._chunks) - 1
        for index, (has_star, items) in enumerate(self._chunks):
            if has_star and not items:
                return b"/" not in name[at:]
            end = _place(items, name, at, has_star=has_star, is_last=index == last)
            if end < 0:
                return False
            at = end
        return at == len(name)


@lru_cache(maxsize=256)
def compile_glob(pattern: bytes) -> Glob:
    """Compile; raises EvalError when the pattern is malformed."""
    return Glob(pattern)


def _place(items: Sequence[_Item], name: bytes, at: int, *, has_star: bool, is_last: bool) -> int:
    """Where the first match of a part ends, or -1. The last part must end with the name."""
    while True:
        end = _match_items(items, name, at)
        if end >= 0 and (not is_last or end == len(name)):
            return end
        if not has_star or at >= len(name) or name[at] == _SLASH:
            return -1
        at += 1


def _match_items(items: Sequence[_Item], name: bytes, at: int) -> int:
    """The end of a match that starts right at ``at``, or -1."""
    for item in items:
        if at >= len(name):
            return -1
        if isinstance(item, int):
            if name[at] != item:
                return -1
            at += 1
            continue
        char, width = _character(name, at)
        if (item is _ANY and char == _SLASH) or not item.has(char):
            return -1
        at += width
    return at


def _character(text: bytes, at: int) -> tuple[int, int]:
    """The character at a position and its width in bytes; a stray byte is U+FFFD, one byte wide."""
    lead = text[at]
    if lead < 0x80:
        return lead, 1
    width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    try:
        return ord(text[at : at + width].decode()), width
    except (UnicodeDecodeError, TypeError):
        return _REPLACEMENT, 1


def _parse(pattern: bytes) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    items: list[_Item] = []
    has_star = False
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == ord("*"):
            if items or not has_star:
                if items or chunks:
                    chunks.append((has_star, tuple(items)))
                items = []
            has_star = True
            at += 1
            continue
        item, at = _item(pattern, at)
        items.append(item)
    if items or has_star:
        chunks.append((has_star, tuple(items)))
    return chunks


def _item(pattern: bytes, at: int) -> tuple[_Item, int]:
    """One item that is no star, and where the next begins."""
    char = pattern[at]
    if char == ord("["):
        return _class(pattern, at + 1)
    if char == ord("?"):
        return _ANY, at + 1
    if char == ord("\\"):
        at += 1
        if at >= len(pattern):
            raise _malformed()
    return pattern[at], at + 1


def _class(pattern: bytes, at: int) -> tuple[_Item, int]:
    is_negated = pattern[at : at + 1] == b"^"
    at += is_negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and pattern[at : at + 1] == b"]"):
        low, at = _class_character(pattern, at)
        high = low
        if pattern[at : at + 1] == b"-":
            high, at = _class_character(pattern, at + 1)
        ranges.append((low, high))
    return _Class(ranges, is_negated=is_negated), at + 1


def _class_character(pattern: bytes, at: int) -> tuple[int, int]:
    """A character inside a class; something must follow it."""
    if pattern[at : at + 1] in (b"", b"-", b"]"):
        raise _malformed()
    if pattern[at] == ord("\\"):
        at += 1
        if at >= len(pattern):
            raise _malformed()
    char, width = _character(pattern, at)
    if (char == _REPLACEMENT and width == 1) or at + width >= len(pattern):
        raise _malformed()
    return char, at + width


def _malformed() -> EvalError:
    return EvalError("syntax error in pattern")
