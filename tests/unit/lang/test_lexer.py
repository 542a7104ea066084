"""Tokens, inserted semicolons, comments, literals."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.lexer import DECLS, EXPR, MODULE, PATTERN, TYPE, Lexer
from reflow.lang.parse import parse_decls, parse_expr, parse_module
from reflow.lang.source import Source
from reflow.lang.syntax import Ident, Literal


def lex(text: str, mode: str = MODULE, name: str = "m.rf") -> tuple[str, list[Diagnostic], list[str]]:
    """The terminals of a text in a row, the errors and the remarks."""
    errors: list[Diagnostic] = []
    remarks: list[str] = []
    lexer = Lexer(Source(name, text), mode, errors, remarks.append, lambda _start, _end: None)
    return " ".join([token[0] for token in lexer.tokens()]), errors, remarks


def terminals(text: str, mode: str = EXPR) -> str:
    return lex(text, mode)[0].removesuffix(" $END")


def value(text: str) -> Any:
    expr = parse_expr(Source("", text))
    assert isinstance(expr, Literal)
    return expr.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<-b", "IDENT LEFT_ARROW IDENT"),
        ("a < -b", "IDENT BINOP MINUS IDENT"),
        (
            "=> := <- || && <= >= != == << >> ... ~>",
            "ARROW ASSIGN LEFT_ARROW" + " BINOP" * 8 + " ELLIPSIS BINOP",
        ),
        ("= : | ! < > .", "EQUALS COLON BAR BANG BINOP BINOP DOT"),
        ("_x", "UNDERSCORE IDENT"),
        ("x_1 é2 日本", "IDENT IDENT IDENT"),
        ("²", "UNKNOWN"),
        ("x²", "IDENT UNKNOWN"),
        ("Ⅳ x٣", "UNKNOWN IDENT"),
        ("~ $ ? \\", "UNKNOWN UNKNOWN UNKNOWN UNKNOWN"),
        ("\0", "NO_TOKEN"),
        ("'a'", "CHARACTER"),
        ("force import include struct", "RESERVED RESERVED RESERVED STRUCT"),
        ("true false trueish", "EXPR EXPR IDENT"),
        ("x.0", "IDENT EXPR"),
        ("1.foo", "EXPR IDENT"),
        ("1...y", "EXPR DOT IDENT"),
        ("1 ...y", "EXPR ELLIPSIS IDENT"),
        ("..5", "DOT EXPR"),
        ("a\n(b)", "IDENT LPAREN IDENT RPAREN"),
        ("\ufeffx", "IDENT"),
        ("x\ufeff", "IDENT UNKNOWN"),
        ("a // b\nc /* d\ne */ f", "IDENT IDENT IDENT"),
        ("a /* b /* c */ d */ e", "IDENT IDENT BINOP BINOP IDENT"),
        ("/*/ a */ b", "IDENT"),
        ("1 /* foo", "EXPR"),
        ('{" a "}', "ERROR"),  # the reader given here makes no template
        ('{ "a"}', "LBRACE EXPR RBRACE"),
        ("file dir x", "FILE DIR IDENT"),
    ],
)
def test_tokens_are_the_longest_that_match(text: str, expected: str) -> None:
    assert terminals(text) == expected


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("x\ny", MODULE, "IDENT SEMI IDENT SEMI"),
        ("x\ny", DECLS, "IDENT SEMI IDENT SEMI"),
        ("x\ny", TYPE, "IDENT SEMI IDENT"),
        ("x\ny", PATTERN, "IDENT SEMI IDENT"),
        ("x\ny", EXPR, "IDENT IDENT"),
        ("x\n", MODULE, "IDENT SEMI"),
        ("x\n\n\n", MODULE, "IDENT SEMI"),
        ("x;", MODULE, "IDENT SEMI"),
        ("x;\n", MODULE, "IDENT SEMI"),
        ("", MODULE, "SEMI"),
        ("\n", MODULE, ""),
        ("", EXPR, ""),
        ('1\n"s"\n`r`\n', MODULE, "EXPR SEMI EXPR SEMI EXPR SEMI"),
        (")\n}\n]\n", MODULE, "RPAREN SEMI RBRACE SEMI RBRACKET SEMI"),
        ("else\nif\nfile\ntrue\n", MODULE, "ELSE SEMI IF SEMI FILE SEMI EXPR SEMI"),
        ("_\n(\n,\n+\n-\n:\n", MODULE, "UNDERSCORE LPAREN COMMA BINOP MINUS COLON"),
        ("'a'\nx", MODULE, "CHARACTER SEMI IDENT SEMI"),
        ("x // c\ny", MODULE, "IDENT SEMI IDENT SEMI"),
        ("x /* c */ y", MODULE, "IDENT IDENT SEMI"),
        ("x /* c\n */ y", MODULE, "IDENT IDENT SEMI"),
        ("x // c", MODULE, "IDENT SEMI"),
        ("x // c\n", MODULE, "IDENT SEMI"),
        ("x\n// c", MODULE, "IDENT SEMI"),
        ("x; // c\n", MODULE, "IDENT SEMI"),
        ("x, // c\n// d\n\ny", MODULE, "IDENT COMMA IDENT SEMI"),
        ("x // c\n\n// d\ny", MODULE, "IDENT SEMI IDENT SEMI"),
    ],
)
def test_newlines_become_semicolons_after_what_can_end_a_statement(
    text: str, mode: str, expected: str
) -> None:
    assert lex(text, mode)[0].removesuffix("$END").rstrip() == expected


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("// a\nval x = 1", "a\n"),
        ("// a\n// b\nval x = 1", "a\nb\n"),
        ("/* a */ val x = 1", "a"),
        ("/* a *//* b */ val x = 1", "ab"),
        ("/*\n a\n b\n*/\nval x = 1", "a\n b\n"),
        ("// a\n\nval x = 1", ""),
        ("// a\n\n// b\nval x = 1", "b\n"),
        ("// a\r\nval x = 1", "a\n"),
        ("//\u00a0a\u3000\nval x = 1", "a\n"),
        ("//\x1ca\nval x = 1", "\x1ca\n"),
        ("val w = 1 // t\n// a\nval x = 1", ""),
        ("val w = 1 // t\n\n// a\nval x = 1", ""),
        ("val w = 1; // t\n// a\nval x = 1", "t\na\n"),
        ("val w = 1\n// a\nval x = 1", "a\n"),
        ("// a\nx := 1", "a\n"),
        ("// a\nfunc x(a int) = 1", "a\n"),
        ("// a\ntype x int", "a\n"),
        ("val /* a */ x = 1", ""),
        ("// a\n@requires(cpu := 1)\n// b\nval x = 1", "a\n"),
        ("@requires(cpu := 1)\n// b\nval x = 1", ""),
    ],
)
def test_a_declaration_keeps_the_comment_right_before_it(text: str, comment: str) -> None:
    assert parse_decls(Source("", text))[-1].comment == comment


@pytest.mark.parametrize(
    ("text", "comments"),
    [
        ("// k\nparam a int", ["k\n"]),
        ("// k\nparam a, b int", ["k\n", "k\n"]),
        ("// k\nparam /* own */ a, b int", ["own", "k\n"]),
        ("// k\nparam a, /* own */ b int", ["k\n", "own"]),
        ("// k\nparam a int = 1", ["k\n"]),
        ("// k\nparam (\n// a\na int\nb int\n/* c */ c, d int\n)", ["a\n", "", "c", ""]),
    ],
)
def test_a_parameter_keeps_its_own_comment_or_that_of_the_keyword(text: str, comments: list[str]) -> None:
    assert [each.comment for each in parse_module(Source("", text)).params] == comments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("010", 10),
        ("08", 8),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("true", True),
        ("false", False),
        ('""', b""),
        ('"a\tb"', b"a\tb"),
        (r'"\a\b\f\n\r\t\v\\\""', b'\a\b\f\n\r\t\v\\"'),
        (r'"\101\x41\u0041\U00000041"', b"AAAA"),
        (r'"\xff\377é\u00e9"', b"\xff\xff\xc3\xa9\xc3\xa9"),
        ('"\udcff"', b"\xef\xbf\xbd"),
        ("`\udcff`", b"\xff"),
        (r"`a\n`", rb"a\n"),
        ("`a\r\nb`", b"a\nb"),
        ('`"`', b'"'),
        ('"`"', b"`"),
    ],
)
def test_literals_have_the_value_that_they_spell(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "ratio"), [("1.", (1, 1)), (".5", (1, 2)), ("1e3", (1000, 1)), ("12.5E-1", (5, 4))]
)
def test_floats_have_the_value_that_they_spell(text: str, ratio: tuple[int, int]) -> None:
    assert value(text).as_integer_ratio() == ratio


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x10", 'failed to parse integer "0x10"'),
        ("1e", 'failed to parse float "1e": number has no digits'),
        (r'"\q"', r'failed to unquote string ""\q"": invalid syntax'),
        (r'"\'"', r'failed to unquote string ""\'"": invalid syntax'),
        (r'"\x4"', r'failed to unquote string ""\x4"": invalid syntax'),
        (r'"\400"', r'failed to unquote string ""\400"": invalid syntax'),
        (r'"\ud800"', r'failed to unquote string ""\ud800"": invalid syntax'),
        (r'"\U00110000"', r'failed to unquote string ""\U00110000"": invalid syntax'),
        ('"a', 'failed to unquote string ""a": invalid syntax'),
        ('"a\nb"', 'failed to unquote string ""a\n": invalid syntax'),
        ('"a\\"', 'failed to unquote string ""a\\"": invalid syntax'),
        ("`a", 'failed to unquote string "`a": invalid syntax'),
        ('{" a', 'failed to unquote string "": invalid syntax'),
    ],
)
def test_bad_literals_are_errors_of_their_own(text: str, message: str) -> None:
    found, errors, _ = lex(text, EXPR)
    assert "ERROR" in found.split()
    assert errors[0].text == message


@pytest.mark.parametrize("text", ["/*", "/*x", "1 /*"])
def test_a_comment_that_is_only_opened_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="comment not terminated") as caught:
        parse_expr(Source("m.rf", text))
    assert len(caught.value.diagnostics) == 1


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        ("08", ["m.rf:1:1: illegal octal number"]),
        ("0x", ["m.rf:1:1: illegal hexadecimal number"]),
        ("x..y", ["m.rf:1:2: illegal token"]),
        (' "\\q"', ["m.rf:1:2: illegal char escape"]),
        ("1 /* foo", ["m.rf:1:3: comment not terminated"]),
        ("\n  `x", ["m.rf:2:3: literal not terminated"]),
        ("x \0", ["m.rf:1:3: illegal character NUL"]),
        ("\udcff", ["m.rf:1:1: illegal UTF-8 encoding"]),
        ('1 "a\\q\\z', [*["m.rf:1:3: illegal char escape"] * 2, "m.rf:1:3: literal not terminated"]),
        ('"\\x4"', ["m.rf:1:1: illegal char escape"]),
        ('"\\18"', ["m.rf:1:1: illegal char escape"]),
        ('"\\400 \\ud800"', []),
        ("'a'", []),
        ("'\\''", []),
        ("''", ["m.rf:1:1: illegal char literal"]),
        ("'ab'", ["m.rf:1:1: illegal char literal"]),
        ("'a", ["m.rf:1:1: literal not terminated"]),
        (" 'ab\n", ["m.rf:1:2: literal not terminated", "m.rf:1:2: illegal char literal"]),
        ("'\\\"'", ["m.rf:1:1: illegal char escape", "m.rf:1:1: illegal char literal"]),
        ("1 \udcff", ["m.rf:1:3: illegal UTF-8 encoding"]),
        ("1 22\udcff", ["m.rf:1:3: illegal UTF-8 encoding"]),
        ('1 "a\0\udcff"', ["m.rf:1:3: illegal character NUL", "m.rf:1:3: illegal UTF-8 encoding"]),
        ("x /*\n\0*/", ["m.rf:1:3: illegal character NUL"]),
        (
            ' {"\udcff',
            [
                "m.rf:1:2: illegal UTF-8 encoding",
                "m.rf:1:2: template literal not terminated",
                "m.rf:1:5: literal not terminated",
            ],
        ),
        ("x\n\0", ["m.rf:1:2: illegal character NUL"]),
        ("1.5", []),
    ],
)
def test_remarks_go_to_the_side(text: str, remarks: list[str]) -> None:
    assert lex(text, EXPR)[2] == remarks


def test_a_conversion_is_reported_at_the_operand_before_it() -> None:
    found = [
        token
        for token in Lexer(Source("", "x int(float(1 int"), EXPR, [], None, lambda _s, _e: None).tokens()
        if token[0] in ("INT", "FLOAT")
    ]
    assert [(token[1].at, token[1].start) for token in found] == [(1, 2), (1, 6), (13, 14)]


def test_names_are_nodes_with_the_place_behind_them() -> None:
    first, second, _ = Lexer(Source("m.rf", "x\n yz"), EXPR, [], None, lambda _s, _e: None).tokens()
    assert isinstance(first[1], Ident)
    assert str(first[1].pos) == "m.rf:1:2"
    assert str(second[1].pos) == "m.rf:2:4"
    assert (second[1].pos.start, second[1].pos.end) == (3, 5)


def test_a_byte_order_mark_is_skipped_and_has_a_column() -> None:
    assert str(parse_expr(Source("m.rf", "\ufeffx")).pos) == "m.rf:1:3"


@pytest.mark.parametrize("digits", [4300, 5000, 200_000])
def test_long_integers_are_read_whatever_limit_python_has(digits: int) -> None:
    assert value("9" * digits) == 10**digits - 1
