"""Errors of the user's program: a place, a message, and for people the line with a caret.

The first line of each is the original's, ``FILE:LINE:COL: message``; what follows is ours and never
begins with a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reflow.core.errors import ProgramError
from reflow.lang.limit import cropped
from reflow.lang.source import INPUT_NAME, Pos

_MOST_SHOWN = 1000
"""Errors of one pass that are shown with their lines."""

_MOST_COLUMNS = 160
"""Characters of a source line that are shown."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message. ``pos`` is None for a message without a place.

    ``text`` may have several lines and may carry positions of its own. ``hint`` says what to do.
    """

    pos: Pos | None
    text: str
    hint: str = ""

    @property
    def headline(self) -> str:
        """``POS: text``, as the original prints it."""
        return self._headed(self.text)

    def _headed(self, text: str) -> str:
        return text if self.pos is None else f"{self.pos}: {text}"

    def render(self) -> str:
        """The headline, then the source line with the span underlined, then the hint."""
        lines = [self._headed(cropped(self.text))]
        if self.pos is not None:
            lines += caret_lines(self.pos)
        if self.hint:
            lines.append(f"  hint: {cropped(self.hint)}")
        return "\n".join(lines)


class SourceError(ProgramError):
    """The errors of one pass over a program. ``str`` is the original's text, `render` is for people."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__()

    def __str__(self) -> str:
        return "\n".join([each.headline for each in self.diagnostics])

    def render(self) -> str:
        """Every diagnostic with its caret lines, as far as anybody would read them."""
        lines = [each.render() for each in self.diagnostics[:_MOST_SHOWN]]
        left_out = len(self.diagnostics) - len(lines)
        if left_out:
            lines.append(f"{left_out} more errors are not shown")
        return "\n".join(lines)


class EvalError(ProgramError):
    """An error while a program is evaluated: one message, with the place it is reported at.

    ``str`` is the original's text (``POS: message``). ``pos`` may be None.
    """

    def __init__(self, text: str, pos: Pos | None = None) -> None:
        self.diagnostic = Diagnostic(pos, text)
        super().__init__(text)

    def __str__(self) -> str:
        return self.diagnostic.headline

    def render(self) -> str:
        """The message with its caret lines."""
        return self.diagnostic.render()


def caret_lines(pos: Pos) -> list[str]:
    """The source line of a place and the line that underlines it; nothing when there is no source.

    Of a line that is too long for a terminal the part around the place is shown.
    """
    source, start, end = pos.source, pos.start, pos.end
    while source.outer is not None:
        start += source.outer_offset
        end += source.outer_offset
        source = source.outer
    if not source.text or (not pos.is_set and start == end):
        return []
    start = min(max(start, 0), len(source.text))
    line, _ = source.line_column(start)
    first, last = source.line_span(line)
    shown_first, shown_last = _window(first, last, start, end)
    text = source.text[shown_first:shown_last]
    lead = "".join(["\t" if char == "\t" else " " for char in text[: start - shown_first]])
    width = max(1, min(end, shown_last) - start)
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if shown_first > first:
        shown, lead = f"…{shown}", f" {lead}"
    if shown_last < last:
        shown += "…"
    number = str(line)
    gutter = " " * len(number)
    where = "" if pos.is_set else f"  ({source.name or INPUT_NAME})"
    return [f"  {number} | {shown}", f"  {gutter} | {lead}{'^' * width}{where}"]


def _window(first: int, last: int, start: int, end: int) -> tuple[int, int]:
    """What to show of a line that spans ``first`` to ``last``: all, or some of it around a place."""
    if last - first <= _MOST_COLUMNS:
        return first, last
    spare = max(0, _MOST_COLUMNS - max(end - start, 1)) // 2
    begin = max(first, min(start - spare, last - _MOST_COLUMNS))
    return begin, min(last, begin + _MOST_COLUMNS)
