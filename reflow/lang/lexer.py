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
from reflow.lang.literal import LiteralError, read_float, read_int, read_string
from reflow.lang.source import Pos, Source
from reflow.lang.syntax import Ident, Literal, Template

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

END = "$END"
"""End of the text. The original's ``$end`` is something else: `NO_TOKEN`."""
NO_TOKEN = "NO_TOKEN"  # noqa: S105  (a terminal)
ERROR = "ERROR"
UNKNOWN = "UNKNOWN"

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
BINARY = ("~>", "||", "&&", "<=", ">=", "!=", "==", "<<", ">>", "<", ">", "+", "*", "/", "%", "&")

# Kinds of raw token, as far as the next newline or the end of the text care.
_OTHER, _ENDS_STATEMENT, _SEMICOLON, _NEWLINE = range(4)
_CLOSING = frozenset({"RPAREN", "RBRACE", "RBRACKET"})

# Groups of the scanning pattern.
_WORD, _PUNCT, _LINE, _NUMBER, _STRING, _TEMPLATE, _COMMENT, _RAW, _CHAR, _OPERATOR, _REST = range(1, 12)

_PATTERN = r"""[ \t\r]*+(?:
    (%s)
  | ([)\]}(,;@#_^\[] | \.(?![.0-9]) | \.\.\.? | :=? | =>|=(?!=) | <- | \{(?!") | \|(?!\|) | !(?!=) | - | \0)
  | (\n)
  | (0[xX][0-9a-fA-F]*+ | [0-9]++(?:\.[0-9]*+(?:[eE][-+]?[0-9]*+)?+ | [eE][-+]?[0-9]*+)?+
     | \.[0-9]++(?:[eE][-+]?[0-9]*+)?+)
  | ("(?:[^"\\\n]++ | \\["\\]?+)*+(?:["\n]|\Z))
  | (\{"(?s:.)[^"]*+(?:"(?!\})[^"]*+)*+"\})
  | (//[^\n]*+ | /\*(?s:.*?)(?:\*/|\Z))
  | (`[^`]*+(?:`|\Z))
  | ('(?:[^'\\\n]++ | \\['\\]?+)*+(?:['\n]|\Z))
  | (~> | \|\| | && | <[=<]? | >[=>]? | != | == | [+*/%%&])
  | ((?s:.))
)"""
_ASCII = re.compile(_PATTERN % "[A-Za-z][A-Za-z0-9_]*+", re.VERBOSE)
_BAD_CHARACTER = re.compile("[\0\udc80-\udcff]")
_BOM = "\ufeff"
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _scanning_pattern(text: str) -> re.Pattern[str]:
    if text.isascii():
        return _ASCII
    odd = "".join(sorted({char for char in text if char.isalnum() and not (char.isalpha() or char.isdecimal())}))
    return _unicode_pattern(odd)


@lru_cache(maxsize=16)
def _unicode_pattern(odd: str) -> re.Pattern[str]:
    """The pattern for texts beyond ASCII; ``odd`` are numbers that Python takes for letters."""
    return re.compile(_PATTERN % rf"[^\W\d_{odd}][^\W{odd}]*+", re.VERBOSE)


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

    def tokens(self) -> Iterator[Token]:  # noqa: C901  (one arm per kind of token)
        """Yield tokens up to and including `END`."""
        source, text = self.source, self.source.text
        if self._note is not None:
            self._note_bad_characters()
        inserts = self._inserts
        keyword, punctuation = KEYWORDS.get, PUNCTUATION
        prev = _OTHER
        comment: str | None = None  # gathered so far, while only comments and newlines have been met
        before = _OTHER  # what stood before the first of those comments
        line = -1  # the newline that was met last since, if that was the last thing met

        for match in _scanning_pattern(text).finditer(text, 1 if text[:1] == _BOM else 0):
            kind: int = match.lastindex  # type: ignore[assignment]
            start, end = match.span(kind)

            if kind == _LINE:
                if comment is not None:
                    comment = "" if line >= 0 else comment + "\n"
                    line = start
                    continue
                if prev == _ENDS_STATEMENT and inserts:
                    yield "SEMI", end, start, end
                prev = _NEWLINE
                continue
            if kind == _COMMENT:
                if comment is None:
                    comment, before = "", prev
                comment += self._comment_body(start, end)
                line = -1
                continue
            if comment is not None:
                prev = before
                if line >= 0:
                    if prev == _ENDS_STATEMENT and inserts:
                        yield "SEMI", end, line, end
                        comment = ""
                    prev = _NEWLINE
                    line = -1
                if comment:
                    self.comments[end] = comment
                comment = None

            if kind == _WORD:
                word = match[_WORD]
                prev = _ENDS_STATEMENT
                terminal = keyword(word)
                if terminal is None:
                    self._last = pos = Pos(source, end, start, end)
                    yield "IDENT", Ident(pos, word), start, end
                elif terminal == "INT" or terminal == "FLOAT":
                    last = self._last
                    yield terminal, Pos(source, end if last is None else last.at, start, end), start, end
                elif terminal == "EXPR":
                    self._last = pos = Pos(source, end, start, end)
                    yield "EXPR", Literal(pos, "bool", word == "true"), start, end
                else:
                    yield terminal, end, start, end
            elif kind == _PUNCT:
                terminal = punctuation[match[_PUNCT]]
                if terminal in _CLOSING:
                    prev = _ENDS_STATEMENT
                elif terminal == "SEMI":
                    prev = _SEMICOLON
                else:
                    prev = _OTHER
                    if end - start == 2 and terminal == "DOT":
                        self._remark(start, "illegal token")
                yield terminal, end, start, end
            elif kind == _OPERATOR:
                prev = _OTHER
                yield "BINOP", match[_OPERATOR], start, end
            elif kind == _TEMPLATE:
                prev = _ENDS_STATEMENT
                template = self._read_template(start, end)
                yield ERROR if template is None else "TEMPLATE", template, start, end
            elif kind == _REST:
                prev = _OTHER
                if text[start] == "{":
                    yield from self._open_template(start)
                    return
                yield UNKNOWN, end, start, end
            elif kind == _CHAR:
                prev = _ENDS_STATEMENT
                yield NO_TOKEN, None, start, end
            else:
                prev = _ENDS_STATEMENT
                literal = self._literal(kind, match[kind], start, end)
                yield ERROR if literal is None else "EXPR", literal, start, end

        end = len(text)
        if comment is not None:
            prev = before
            if line >= 0:
                if prev == _ENDS_STATEMENT and inserts:
                    yield "SEMI", end, line, end
                prev = _NEWLINE
        if self._closes and prev < _SEMICOLON:
            yield "SEMI", end, end, end
        yield END, None, end, end

    def _literal(self, kind: int, text: str, start: int, end: int) -> Literal | None:
        """The literal of a token; None after an error."""
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
            return None
        self._last = pos
        return Literal(pos, name, value)

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

    def _open_template(self, start: int) -> Iterator[Token]:
        """The tokens of a template without an end: its brace, then a string with nothing in it."""
        end = len(self.source.text)
        self._remark(start, "template literal not terminated")
        yield "LBRACE", end, start, end
        pos = Pos(self.source, end, start, end)
        self._errors.append(Diagnostic(pos, 'failed to unquote string "": invalid syntax'))
        yield ERROR, None, end, end

    def _remark(self, at: int, text: str) -> None:
        if self._note is not None:
            self._note(f"{Pos(self.source, at, at, at)}: {text}")

    def _note_bad_characters(self) -> None:
        for match in _BAD_CHARACTER.finditer(self.source.text):
            known = match[0] == "\0"
            self._remark(match.start(), "illegal character NUL" if known else "illegal UTF-8 encoding")
