"""Go's regular expressions over byte strings, by RE2.

RE2 and Go's ``regexp`` share syntax and rules (leftmost, first alternative). What differs is bridged
here: the texts of errors, bytes that are no UTF-8 (Go reads each as one U+FFFD, RE2 matches nothing
there), ``\\C`` (unknown to Go), ``\\B`` inside characters, the steps of replacing, and ``$name`` in
replacements. RE2 is imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reflow.lang.diagnostic import EvalError
from reflow.lang.extent import check_string
from reflow.lang.regex_syntax import explain, hide_byte_escapes

if TYPE_CHECKING:
    Span = tuple[int, int]

_ABSENT = (-1, -1)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Regex:
    """A compiled expression. Texts and results are bytes."""

    __slots__ = ("_compiled", "_names", "group_count")

    def __init__(self, pattern: bytes) -> None:
        self._compiled = _compile(pattern)
        self.group_count: int = self._compiled.groups
        self._names: dict[bytes, int] | None = None

    def is_match(self, text: bytes) -> bool:
        """Tell whether it matches anywhere in ``text``."""
        clean, _ = _as_utf8(text)
        return self._search(clean, 0) is not None

    def find(self, text: bytes) -> list[bytes] | None:
        """The first match and its groups (b"" for one that took no part), or None."""
        clean, offsets = _as_utf8(text)
        found = self._search(clean, 0)
        if found is None:
            return None
        spans = _original([found.span(group) for group in range(self.group_count + 1)], offsets)
        return [text[start:end] if start >= 0 else b"" for start, end in spans]

    def replace_all(self, text: bytes, template: bytes) -> bytes:
        """Replace every match; ``$1``, ``${1}``, ``$name`` and ``$$`` in ``template`` are expanded."""
        parts = []
        done = size = 0
        for spans in self._matches(text):
            start, end = spans[0]
            expanded = self._expand(template, text, spans)
            size += start - done + len(expanded)
            check_string(size)
            parts += [text[done:start], expanded]
            done = end
        parts.append(text[done:])
        return b"".join(parts)

    def _matches(self, text: bytes) -> Iterator[list[Span]]:
        """Matches from left to right; an empty one right after another match does not count."""
        clean, offsets = _as_utf8(text)
        position, last_end = 0, -1
        while position <= len(clean):
            found = self._search(clean, position)
            if found is None:
                return
            start, end = found.span()
            if end > start or start > last_end:
                yield _original([found.span(group) for group in range(self.group_count + 1)], offsets)
            last_end = end
            position = end if end > position else position + _width(clean, position)

    def _search(self, clean: bytes, position: int) -> Any:
        """The first match from a position on. RE2 lets ``\\B`` match inside a character, Go does not."""
        found = self._compiled.search(clean, position)
        while found is not None and clean[found.start() : found.start() + 1] > b"\x7f":
            start = found.start()
            if clean[start] >= 0xC0:
                break
            while start < len(clean) and 0x80 <= clean[start] < 0xC0:
                start += 1
            found = self._compiled.search(clean, start)
        return found

    def _expand(self, template: bytes, text: bytes, spans: Sequence[Span]) -> bytes:
        if b"$" not in template:
            return template
        parts = []
        for piece in split_template(template):
            if isinstance(piece, bytes):
                parts.append(piece)
                continue
            start, end = self._span_of(piece, spans)
            if start >= 0:
                parts.append(text[start:end])
        return b"".join(parts)

    def _span_of(self, reference: int | str, spans: Sequence[Span]) -> Span:
        if isinstance(reference, str):
            if self._names is None:
                self._names = self._compiled.groupindex
            reference = self._names.get(reference.encode("utf-8", "surrogateescape"), len(spans))
        return spans[reference] if reference < len(spans) else _ABSENT


@lru_cache(maxsize=256)
def compile_regex(pattern: bytes) -> Regex:
    """Compile; raises EvalError with Go's text. Repeated calls with one pattern are cheap."""
    return Regex(pattern)


def _compile(pattern: bytes) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    readable, restore = hide_byte_escapes(pattern)
    try:
        return re2.compile(readable, options)
    except re2.error as err:
        raise EvalError(restore(explain(readable, err.args[0]))) from err


def _as_utf8(text: bytes) -> tuple[bytes, list[int] | None]:
    """The text with every byte that is no UTF-8 replaced by U+FFFD.

    The second item maps offsets in the result to offsets in ``text``; None when they are the same.
    """
    try:
        text.decode()
    except UnicodeDecodeError:
        pass
    else:
        return text, None
    parts = []
    offsets: list[int] = []
    at = 0
    for char in text.decode("utf-8", "surrogateescape"):
        is_stray = "\udc80" <= char <= "\udcff"
        encoded = (_REPLACEMENT if is_stray else char).encode()
        parts.append(encoded)
        offsets += [at] * len(encoded)
        at += 1 if is_stray else len(encoded)
    offsets.append(at)
    return b"".join(parts), offsets


def _original(spans: list[Span], offsets: list[int] | None) -> list[Span]:
    if offsets is None:
        return spans
    return [(offsets[start], offsets[end]) if start >= 0 else _ABSENT for start, end in spans]


def _width(text: bytes, position: int) -> int:
    """Bytes of the character at a position of valid UTF-8; 1 at the end."""
    if position >= len(text):
        return 1
    lead = text[position]
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def split_template(template: bytes) -> list[bytes | int | str]:
    """Split a replacement into literal bytes, group numbers (int) and group names (str)."""
    pieces: list[bytes | int | str] = []
    text = template.decode("utf-8", "surrogateescape")
    while True:
        before, dollar, text = text.partition("$")
        pieces.append(before.encode("utf-8", "surrogateescape"))
        if not dollar:
            return pieces
        if text.startswith("$"):
            pieces.append(b"$")
            text = text[1:]
            continue
        name, rest = _reference(text)
        if not name:
            pieces.append(b"$")
            continue
        pieces.append(_as_number(name))
        text = rest


def _reference(text: str) -> tuple[str, str]:
    """The name at the start of a text that followed ``$``, and what comes after; no name: malformed."""
    is_braced = text.startswith("{")
    start = 1 if is_braced else 0
    end = start
    while end < len(text) and (text[end] == "_" or text[end].isalpha() or text[end].isdecimal()):
        end += 1
    if is_braced and text[end : end + 1] != "}":
        return "", text
    return text[start:end], text[end + 1 :] if is_braced else text[end:]


def _as_number(name: str) -> int | str:
    """A group number, or the name itself when it is none (leading zeros and huge numbers are names)."""
    is_number = name.isascii() and name.isdigit() and len(name) <= 9
    if not is_number or (name[0] == "0" and len(name) > 1):
        return name
    return int(name)
