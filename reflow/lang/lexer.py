"""From source text to the terminals of the grammar.

The lexer also inserts semicolons, gathers documentation comments and reads literals, templates included.
A token is reported at the offset where the scanner stands when the parser looks at it: just after the
token, except for a semicolon that was inserted after a comment, where the token behind the newline has
been read as well. Source: syntax/parse.go, internal/scanner/scanner.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.literal import LiteralError, character_remarks, read_float, read_int, read_string
from reflow.lang.source import INPUT_NAME, Pos, Source
from reflow.lang.syntax import Ident, Literal, Template
from reflow.lang.terminal import BINOP, CHARACTER, END, ERROR, NO_TOKEN, UNKNOWN

Token = tuple[str, Any, int, int]
"""Terminal, value, start of the text, offset where the scanner stands.

The value of a keyword or of punctuation is the offset behind it; of an operator its text; of an
identifier or a literal its node; of ``int`` and ``float`` the place that a conversion is reported at.
"""

Note = Callable[[str], None]
TemplateReader = Callable[[int, int], "Template | None"]

MODULE = "module"
DECLS = "defs"
EXPR = "expr"
TYPE = "type"
PATTERN = "pattern"

KEYWORDS = {
    "val": "VAL",
    "file": "FILE",
    "dir": "DIR",
    "struct": "STRUCT",
    "module": "MODULE",
    "exec": "EXEC",
    "func": "FUNC",
    "int": "INT",
    "float": "FLOAT",
    "string": "STRING",
    "bool": "BOOL",
    "keyspace": "KEYSPACE",
    "param": "PARAM",
    "if": "IF",
    "else": "ELSE",
    "switch": "SWITCH",
    "case": "CASE",
    "make": "MAKE",
    "requires": "REQUIRES",
    "type": "TYPE",
    "force": "RESERVED",
    "import": "RESERVED",
    "include": "RESERVED",
    "true": "EXPR",
    "false": "EXPR",
}

PUNCTUATION = {
    "=>": "ARROW",
    ":=": "ASSIGN",
    "<-": "LEFT_ARROW",
    "...": "ELLIPSIS",
    "..": "DOT",
    "@": "AT",
    "{": "LBRACE",
    "}": "RBRACE",
    "(": "LPAREN",
    ")": "RPAREN",
    "[": "LBRACKET",
    "]": "RBRACKET",
    "|": "BAR",
    "^": "CARET",
    "_": "UNDERSCORE",
    "!": "BANG",
    "#": "HASH",
    ".": "DOT",
    ",": "COMMA",
    ";": "SEMI",
    ":": "COLON",
    "=": "EQUALS",
    "-": "MINUS",
    "\0": NO_TOKEN,
}

# Kinds of raw token, as far as the next newline or the end of the text care.
_OTHER, _ENDS_STATEMENT, _SEMICOLON, _NEWLINE = range(4)
_KINDS = {
    "RPAREN": _ENDS_STATEMENT,
    "RBRACE": _ENDS_STATEMENT,
    "RBRACKET": _ENDS_STATEMENT,
    "SEMI": _SEMICOLON,
}
_VALUED = frozenset({"EXPR", "INT", "FLOAT"})

TEMPLATE_END = '"}'

# Groups of the scanning pattern.
_WORD, _PUNCT, _LINE, _NUMBER, _STRING, _TEMPLATE, _COMMENT, _RAW, _CHAR, _OPERATOR, _REST = range(1, 12)

_PATTERN = r"""[ \t\r]*+(?:
    (%s)
  | ([)\]}(,;@#_^\[] | \.(?![.0-9]) | \.\.\.? | :=? | =>|=(?!=) | <- | \{(?!") | \|(?!\|) | !(?!=) | - | \0)
  | (\n)
  | (0[xX][0-9a-fA-F]*+ | [0-9]++(?:\.[0-9]*+(?:[eE][-+]?[0-9]*+)?+ | [eE][-+]?[0-9]*+)?+
     | \.[0-9]++(?:[eE][-+]?[0-9]*+)?+)
  | ("(?>(?:[^"\\\n]++ | \\["\\]?+)*)(?:["\n]|\Z))
  | (\{"(?s:.)[^"]*+(?>(?:"(?!\})[^"]*+)*)"\})
  | (//[^\n]*+ | /\*(?s:.*?)(?:\*/|\Z))
  | (`[^`]*+(?:`|\Z))
  | ('(?>(?:[^'\\\n]++ | \\['\\]?+)*)(?:['\n]|\Z))
  | (~> | \|\| | && | <[=<]? | >[=>]? | != | == | [+*/%%&])
  | ((?s:.))
)"""
_ASCII = re.compile(_PATTERN % "[A-Za-z][A-Za-z0-9_]*+", re.VERBOSE)
_BAD_CHARACTER = re.compile("[\0\udc80-\udcff]")
_BOM = "\ufeff"
_MOST_REMARKS = 100
"""Illegal characters that are told one by one."""
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _scanning_pattern(text: str) -> re.Pattern[str]:
    if text.isascii():
        return _ASCII
    odd = "".join(
        sorted({char for char in text if char.isalnum() and not (char.isalpha() or char.isdecimal())})
    )
    return _unicode_pattern(odd)


@lru_cache(maxsize=16)
def _unicode_pattern(odd: str) -> re.Pattern[str]:
    """The pattern for texts beyond ASCII; ``odd`` are numbers that Python takes for letters."""
    return re.compile(_PATTERN % rf"[^\W\d_{odd}][^\W{odd}]*+", re.VERBOSE)


class _Comments:
    """Comments, and newlines between them, that have been met one after the other.

    ``prev`` is the kind of what stood before the first; ``line`` where the newline is that was met last,
    -1 if a comment came last.
    """

    __slots__ = ("_parts", "line", "prev")

    def __init__(self, prev: int) -> None:
        self.prev = prev
        self.line = -1
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """The comments' texts, put together."""
        return "".join(self._parts)

    def add(self, body: str) -> None:
        """Take a comment in; nothing separates it from one on the same line."""
        self._parts.append(body)
        self.line = -1

    def newline(self, at: int) -> None:
        """Take a newline in; after a blank line, what came before documents nothing."""
        if self.line >= 0:
            self._parts.clear()
        else:
            self._parts.append("\n")
        self.line = at


class Lexer:
    """Reads one source. ``errors`` receives what makes the text unusable, ``note`` mere remarks.

    ``comments`` maps the offset behind a token to the comment that belongs to it.
    """

    def __init__(
        self,
        source: Source,
        mode: str,
        errors: list[Diagnostic],
        note: Note | None,
        read_template: TemplateReader,
    ) -> None:
        self.source = source
        self.comments: dict[int, str] = {}
        self._inserts = mode != EXPR
        self._closes = mode in (MODULE, DECLS)
        self._errors = errors
        self._note = note
        self._read_template = read_template
        self._last: Pos | None = None
        self._bad: list[int] = []
        self._remarks = 0

    def tokens(self) -> Iterator[Token]:  # noqa: C901  (one arm per kind of token)
        """Yield tokens up to and including `END`. Raises SourceError where nothing can follow."""
        source, text = self.source, self.source.text
        bad = self._bad = self._bad_characters()
        inserts = self._inserts
        keyword, punctuation = KEYWORDS.get, PUNCTUATION
        prev = _OTHER
        comments: _Comments | None = None
        for match in _scanning_pattern(text).finditer(text, 1 if text[:1] == _BOM else 0):
            kind: int = match.lastindex  # type: ignore[assignment]
            start, end = match.span(kind)
            if bad and bad[-1] <= end:
                self._note_bad(bad, start, end)
            if kind == _LINE:
                if comments is not None:
                    comments.newline(start)
                    continue
                if prev == _ENDS_STATEMENT and inserts:
                    yield "SEMI", end, start, end
                prev = _NEWLINE
                continue
            if kind == _COMMENT:
                comments = comments or _Comments(prev)
                comments.add(self._comment_body(start, end))
                continue
            if comments is not None:
                if comments.line >= 0 and comments.prev == _ENDS_STATEMENT and inserts:
                    yield "SEMI", end, comments.line, end
                elif text_before := comments.text:
                    self.comments[end] = text_before
                comments = None

            if kind == _WORD:
                prev = _ENDS_STATEMENT
                word = match[_WORD]
                terminal = keyword(word)
                if terminal is None:
                    self._last = pos = Pos(source, end, start, end)
                    yield "IDENT", Ident(pos, word), start, end
                elif terminal in _VALUED:
                    yield self._valued_word(terminal, word, start, end)
                else:
                    yield terminal, end, start, end
            elif kind == _PUNCT:
                terminal = punctuation[match[_PUNCT]]
                prev = _KINDS.get(terminal, _OTHER)
                if terminal == "DOT" and end - start == 2:
                    self._remark(start, "illegal token")
                yield terminal, end, start, end
            elif kind == _OPERATOR:
                prev = _OTHER
                yield BINOP, match[_OPERATOR], start, end
            elif kind == _REST:
                prev = _OTHER
                yield from self._stray(start, end)
                if text[start] == "{":
                    return
            else:
                prev = _ENDS_STATEMENT
                yield self._literal(kind, match[kind], start, end)
        yield from self._end(prev, comments)

    def _valued_word(self, terminal: str, word: str, start: int, end: int) -> Token:
        """A word that is a literal, or may be a conversion: those are reported at the last operand."""
        pos = Pos(self.source, end, start, end)
        if terminal == "EXPR":
            self._last = pos
            return "EXPR", Literal(pos, "bool", word == "true"), start, end
        if self._last is not None:
            pos.at = self._last.at
        return terminal, pos, start, end

    def _stray(self, start: int, end: int) -> Iterator[Token]:
        """The token of a character without a meaning, or those of a template without an end.

        Such a template is taken for its brace, then a string with nothing in it.
        """
        if self.source.text[start] != "{":
            yield UNKNOWN, end, start, end
            return
        end = len(self.source.text)
        self._note_bad(self._bad, start, end)
        self._remark(start, "template literal not terminated")
        yield "LBRACE", end, start, end
        self._remark(end, "literal not terminated")
        place = Pos(self.source, end, start, end)
        hint = f"the template that begins here has no {TEMPLATE_END} to end it"
        self._errors.append(Diagnostic(place, 'failed to unquote string "": invalid syntax', hint))
        yield ERROR, None, end, end

    def _end(self, prev: int, comments: _Comments | None) -> Iterator[Token]:
        """The tokens that the end of the text gives; a last newline may be missing."""
        end = len(self.source.text)
        if comments is not None:
            prev = comments.prev
            if comments.line >= 0:
                if prev == _ENDS_STATEMENT and self._inserts:
                    yield "SEMI", end, comments.line, end
                prev = _NEWLINE
        if self._closes and prev != _SEMICOLON and prev != _NEWLINE:
            yield "SEMI", end, end, end
        yield END, None, end, end

    def _literal(self, kind: int, text: str, start: int, end: int) -> Token:
        """The token of a number, a string or a template; `ERROR` after an error."""
        if kind == _CHAR:
            for remark in character_remarks(text):
                self._remark(start, remark)
            return CHARACTER, None, start, end
        if kind == _TEMPLATE:
            template = self._read_template(start, end)
            return ERROR if template is None else "TEMPLATE", template, start, end
        pos = Pos(self.source, end, start, end)
        try:
            if kind == _NUMBER:
                name, value = self._number(text, start)
            else:
                name, value = "string", read_string(text)
        except LiteralError as err:
            self._errors.append(Diagnostic(pos, str(err)))
            for remark in err.remarks:
                self._remark(start, remark)
            return ERROR, None, start, end
        self._last = pos
        return "EXPR", Literal(pos, name, value), start, end

    def _number(self, text: str, start: int) -> tuple[str, Any]:
        if not text.isdigit() and text[:2] not in ("0x", "0X"):
            return "float", read_float(text)
        if text[0] == "0" and ("8" in text or "9" in text):
            self._remark(start, "illegal octal number")
        return "int", read_int(text)

    def _comment_body(self, start: int, end: int) -> str:
        """The text of a comment without its marks. Raises SourceError for an opening mark at the end."""
        text = self.source.text
        if text[start + 1] == "/":
            return text[start + 2 : end].strip(_BLANKS)
        if end - start >= 4 and text[end - 2 : end] == "*/":
            return text[start + 2 : end - 2].strip(_BLANKS)
        self._remark(start, "comment not terminated")
        if len(text[start:].encode("utf-8", "surrogateescape")) < 4:
            self._errors.append(Diagnostic(Pos(self.source, end, start, end), "comment not terminated"))
            raise SourceError(self._errors)
        return ""

    def _remark(self, at: int, text: str) -> None:
        if self._note is not None:
            self._note(f"{Pos(self.source, at, at, at)}: {text}")

    def _bad_characters(self) -> list[int]:
        """Where illegal characters are, the last first."""
        if self._note is None:
            return []
        return [match.start() for match in _BAD_CHARACTER.finditer(self.source.text)][::-1]

    def _note_bad(self, bad: list[int], start: int, end: int) -> None:
        """Tell of those in a token, or at its end, at the token; of those that stand alone, there."""
        while bad and bad[-1] <= end:
            at = bad.pop()
            self._remarks += 1
            if self._remarks <= _MOST_REMARKS:
                known = self.source.text[at] == "\0"
                remark = "illegal character NUL" if known else "illegal UTF-8 encoding"
                self._remark(min(start, at), remark)
            elif self._note is not None:
                self._note(f"{self.source.name or INPUT_NAME}: {len(bad) + 1} more characters are illegal")
                bad.clear()
