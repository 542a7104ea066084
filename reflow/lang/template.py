"""The script of an exec: literal fragments with expressions between them.

Source: syntax/parse.go, (*Parser).scanTemplate.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.lexer import KEYWORDS
from reflow.lang.source import Pos, ReportedPos, Source
from reflow.lang.syntax import Expr, Ident, Template

_NAME = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*")

ParseExpr = Callable[[Source], Expr]


def read_template(
    source: Source, start: int, end: int, parse: ParseExpr, errors: list[Diagnostic]
) -> Template | None:
    """Split the template whose token spans ``start`` to ``end``; None after an error.

    Each expression is parsed as a source of its own, without a name: its positions are relative to it.
    Raises SourceError for a ``}}`` that comes before ``{{``.
    """
    text = source.text[start + 2 : end - 2]
    fragments: list[str] = []
    args: list[Expr] = []
    line, column = source.line_column(start) if "{{" in text else (0, 0)
    at = 0
    while (opening := text.find("{{", at)) >= 0:
        fragment = text[at:opening]
        fragments.append(fragment)
        line, column = _advance(line, column, fragment)
        closing = text.find("}}", at)
        if closing < 0:
            place = start + 2 + opening
            errors.append(Diagnostic(Pos(source, end, place, place + 2), "unterminated interpolation"))
            return None
        if closing < opening:
            raise SourceError([*errors, _closed_first(source, start + 2 + closing)])
        body = text[opening + 2 : closing]
        inner = Source("", body, outer=source, outer_offset=start + 2 + opening + 2)
        try:
            args.append(_parse(inner, parse))
        except SourceError as err:
            errors += [_moved(each, source, inner.outer_offset, line, column) for each in err.diagnostics]
            return None
        line += body.count("\n")
        at = closing + 2
    fragments.append(text[at:])
    return Template(text, tuple(fragments), tuple(args))


def _closed_first(source: Source, place: int) -> Diagnostic:
    hint = "where {{ follows, write the braces apart: a script has no way to quote them"
    return Diagnostic(Pos(source, place + 2, place, place + 2), "}} before {{ in a template", hint)


def _parse(inner: Source, parse: ParseExpr) -> Expr:
    """Parse an interpolation; a mere name, which most are, without a parser."""
    match = _NAME.fullmatch(inner.text)
    if match is None or match[1] in KEYWORDS:
        return parse(inner)
    start, end = match.span(1)
    return Ident(Pos(inner, end, start, end), match[1])


def _advance(line: int, column: int, fragment: str) -> tuple[int, int]:
    """Where an interpolation starts for messages: columns count bytes, and only those of fragments."""
    newline = fragment.rfind("\n")
    if newline >= 0:
        return line + fragment.count("\n"), _byte_length(fragment) - _byte_length(fragment[:newline])
    return line, column + _byte_length(fragment) + 2


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _moved(each: Diagnostic, source: Source, offset: int, line: int, column: int) -> Diagnostic:
    """An error inside an interpolation as the error of the text around it."""
    pos = each.pos
    assert pos is not None
    inner_line, inner_column = pos.line_column()
    if inner_line <= 1:
        inner_column += column
    place = ReportedPos(source, offset + pos.start, offset + pos.end, inner_line + line - 1, inner_column)
    return Diagnostic(place, each.text, each.hint)
