"""CSV as Go's ``encoding/csv`` reads it (RFC 4180, strict about quotes).

Empty lines are skipped; a field that begins with a quote ends with one, and may hold line ends; anywhere
else a quote is an error. A mark of byte order at the beginning is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_BARE_QUOTE = 'bare " in non-quoted-field'
_LOOSE_QUOTE = 'extraneous or missing " in quoted-field'
_MARK = "\ufeff"


class CsvError(ValueError):
    """A text that is no CSV; the text of the error says where."""


class Record(NamedTuple):
    """The fields of a record, and the line that it begins on (from 1)."""

    line: int
    fields: list[str]


def read_csv(text: str) -> Iterator[Record]:
    """The records of a text. Raises CsvError."""
    lines = _lines(text.removeprefix(_MARK))
    for number, line in lines:
        if line in ("\n", ""):
            continue
        if '"' not in line:
            yield Record(number, line.removesuffix("\n").split(","))
        else:
            yield Record(number, _Quoted(lines, number, line).fields())


def check_width(record: Record, width: int) -> None:
    """Raise CsvError for a record of another width than the first one's."""
    if len(record.fields) != width:
        raise CsvError(f"record on line {record.line}: wrong number of fields")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; each ends in a plain line end, but for the last one."""
    parts = text.split("\n")
    last = parts.pop()
    for number, line in enumerate(parts, 1):
        yield number, line.removesuffix("\r") + "\n"
    if last:
        yield len(parts) + 1, last.removesuffix("\r")


class _Quoted:
    """Reads one record that has quotes, and as many lines as it takes."""

    def __init__(self, lines: Iterator[tuple[int, str]], number: int, line: str) -> None:
        self._lines = lines
        self._first = self._number = number
        self._line = line
        self._at = 0

    def fields(self) -> list[str]:
        """The fields, to the end of the record."""
        found = []
        while True:
            if self._line.startswith('"', self._at):
                self._at += 1
                found.append(self._quoted_field())
            else:
                found.append(self._plain_field())
            if not self._line.startswith(",", self._at):
                return found
            self._at += 1

    def _plain_field(self) -> str:
        end = self._line.find(",", self._at)
        end = len(self._line.removesuffix("\n")) if end < 0 else end
        field = self._line[self._at : end]
        if '"' in field:
            raise self._error(self._at + field.index('"'), _BARE_QUOTE)
        self._at = end
        return field

    def _quoted_field(self) -> str:
        parts = []
        while True:
            quote = self._line.find('"', self._at)
            if quote < 0:
                parts.append(self._line[self._at :])
                self._next_line()
                continue
            parts.append(self._line[self._at : quote])
            self._at = quote + 1
            if self._line.startswith('"', self._at):
                parts.append('"')
                self._at += 1
            elif self._line[self._at : self._at + 1] in (",", "\n", ""):
                return "".join(parts)
            else:
                raise self._error(quote, _LOOSE_QUOTE)

    def _next_line(self) -> None:
        following = next(self._lines, None)
        if following is None:
            raise self._error(len(self._line), _LOOSE_QUOTE)
        self._number, self._line = following
        self._at = 0

    def _error(self, at: int, what: str) -> CsvError:
        column = len(self._line[:at].encode("utf-8", "surrogateescape")) + 1
        where = f"parse error on line {self._number}, column {column}: {what}"
        return CsvError(f"record on line {self._first}; {where}" if self._first != self._number else where)
