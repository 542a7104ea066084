"""Word-wrapping of documentation.

Words fill lines greedily and keep the blanks between them. A line that begins with a blank is kept as it is.
Blank lines separate paragraphs; other line ends are blanks. Trailing blanks go.
Source: v.io/x/lib/textutil, WrapWriter.
"""

from __future__ import annotations

import re

_BLANK = "\t \x85\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LINE = re.compile("([^\n\f\r\v\u2028\u2029]*)(\r\n|[\n\f\r\v\u2028\u2029]|\\Z)")
_WORD = re.compile(f"([^{_BLANK}]+)([{_BLANK}]*)")
_LEADING_BLANK = re.compile(f"[{_BLANK}]")
_TRAILING_BLANKS = re.compile(f"[{_BLANK}]+\\Z")
_STRAY = re.compile("[\udc80-\udcff]")


def wrap(text: str, width: int) -> list[str]:
    """Wrap a text into lines of at most so many characters, longer words and kept lines aside."""
    wrapper = _Wrapper(width)
    for found in _LINE.finditer(_STRAY.sub("\ufffd", text)):
        line, end = found.groups()
        if line or end:
            wrapper.add_line(line, end)
    wrapper.break_line()
    return wrapper.lines


class _Wrapper:
    def __init__(self, width: int) -> None:
        self._width = width
        self._current = ""
        self._is_paragraph_over = False
        self.lines: list[str] = []

    def add_line(self, line: str, end: str) -> None:
        is_blank = not _TRAILING_BLANKS.sub("", line)
        if _LEADING_BLANK.match(line):
            self.break_line()
            self._current = line
            self.break_line()
        else:
            for word, blanks in _WORD.findall(line):
                self._add_word(word)
                self._add_blanks(blanks)
        if end == "\u2028":
            self.break_line()
        elif is_blank or end == "\u2029":
            self.break_line()
            self._is_paragraph_over = bool(self.lines)
        elif self._is_full():
            self.break_line()
        elif self._current and not _TRAILING_BLANKS.search(self._current):
            self._current += " "

    def _add_word(self, word: str) -> None:
        if len(self._current) + len(word) > self._width:
            self.break_line()
        self._current += word

    def _add_blanks(self, blanks: str) -> None:
        for blank in blanks:
            if self._is_full():
                self.break_line()
                return
            self._current += blank

    def _is_full(self) -> bool:
        return len(self._current) + 1 >= self._width

    def break_line(self) -> None:
        """End the current line; nothing to do when it has no word."""
        line = _TRAILING_BLANKS.sub("", self._current)
        self._current = ""
        if not line:
            return
        if self._is_paragraph_over:
            self.lines.append("")
            self._is_paragraph_over = False
        self.lines.append(line)
