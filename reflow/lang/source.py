"""Source texts and places in them.

The original reports the position just *after* the token that an item is named by. So a `Pos` has two
sides: ``at``, the offset that is reported, and the span from ``start`` to ``end`` that a caret line
shows. Offsets count characters (code points) from 0; lines and columns count from 1.
"""

from __future__ import annotations

from bisect import bisect_right

INPUT_NAME = "<input>"


class Source:
    """A text with the name it is shown under; an empty name shows as ``<input>``.

    ``text`` was decoded as UTF-8 with surrogateescape. An interpolation is a `Source` of its own with
    no name; ``outer`` and ``outer_offset`` then say where it stands, for caret lines.
    """

    __slots__ = ("_line_starts", "name", "outer", "outer_offset", "text")

    def __init__(self, name: str, text: str, *, outer: Source | None = None, outer_offset: int = 0) -> None:
        self._line_starts: list[int] | None = None
        self.name = name
        self.text = text
        self.outer = outer
        self.outer_offset = outer_offset

    @property
    def line_starts(self) -> list[int]:
        """Offset of the first character of each line."""
        if self._line_starts is None:
            self._line_starts = self._find_lines()
        return self._line_starts

    def _find_lines(self) -> list[int]:
        starts = [0]
        find = self.text.find
        at = find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = find("\n", at + 1)
        return starts

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character offset."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line_span(self, line: int) -> tuple[int, int]:
        """Where a line begins, and where it ends before its newline."""
        starts = self.line_starts
        return starts[line - 1], starts[line] - 1 if line < len(starts) else len(self.text)


class Pos:
    """A place in a source: what is reported, and what is underlined.

    ``at`` of -1 is a position that the original never set: it is reported as ``<input>``.
    """

    __slots__ = ("at", "end", "source", "start")

    def __init__(self, source: Source, at: int, start: int, end: int) -> None:
        self.source = source
        self.at = at
        self.start = start
        self.end = end

    @property
    def is_set(self) -> bool:
        """Whether the original would report a line and a column."""
        return self.at >= 0

    def __str__(self) -> str:
        """``FILE:LINE:COL``, or ``<input>`` for a position that was never set."""
        if self.at < 0:
            return INPUT_NAME
        line, column = self.line_column()
        return f"{self.source.name or INPUT_NAME}:{line}:{column}"

    def line_column(self) -> tuple[int, int]:
        """Line and column that are reported; only for a position that is set."""
        return self.source.line_column(self.at)

    def sort_key(self) -> tuple[str, int]:
        """Order by file name, then by offset."""
        return (self.source.name, self.at) if self.at >= 0 else ("", -1)

    def __repr__(self) -> str:
        return f"Pos({self})"


class ReportedPos(Pos):
    """A place whose line and column are given: they are not those of an offset in its source.

    Errors inside an interpolation are such places: the original's columns drift.
    """

    __slots__ = ("column", "line")

    def __init__(self, source: Source, start: int, end: int, line: int, column: int) -> None:
        super().__init__(source, end, start, end)
        self.line = line
        self.column = column

    def line_column(self) -> tuple[int, int]:
        """Line and column that are reported."""
        return self.line, self.column


NO_SOURCE = Source("", "")
NO_POS = Pos(NO_SOURCE, -1, 0, 0)
