"""Errors of the user's program: a place, a message, and for people the line with a caret.

The first line of each is the original's, ``FILE:LINE:COL: message``; what follows is ours and never
begins with a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reflow.core.errors import ProgramError
from reflow.lang.source import INPUT_NAME, Pos


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
        return self.text if self.pos is None else f"{self.pos}: {self.text}"

    def render(self) -> str:
        """The headline, then the source line with the span underlined, then the hint."""
        lines = [self.headline]
        if self.pos is not None:
            lines += caret_lines(self.pos)
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class SourceError(ProgramError):
    """The errors of one pass over a program. ``str`` is the original's text, `render` is for people."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__()

    def __str__(self) -> str:
        return "\n".join([each.headline for each in self.diagnostics])

    def render(self) -> str:
        """Every diagnostic with its caret lines."""
        return "\n".join([each.render() for each in self.diagnostics])


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
    """The source line of a place and the line that underlines it; nothing when there is no source."""
    source, start, end = pos.source, pos.start, pos.end
    while source.outer is not None:
        start += source.outer_offset
        end += source.outer_offset
        source = source.outer
    if not source.text or (not pos.is_set and start == end):
        return []
    start = min(max(start, 0), len(source.text))
    line, column = source.line_column(start)
    text = source.line_text(line)
    width = max(1, min(end, start + len(text) - column + 1) - start)
    number = str(line)
    lead = "".join("\t" if char == "\t" else " " for char in text[: column - 1])
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    gutter = " " * len(number)
    where = "" if pos.is_set else f"  ({source.name or INPUT_NAME})"
    return [f"  {number} | {shown}", f"  {gutter} | {lead}{'^' * width}{where}"]
