"""Expressions and patterns as text."""

from __future__ import annotations

import pytest

from reflow.lang.parse import parse_expr
from reflow.lang.pretty import abbreviate, tree_text
from reflow.lang.source import Source


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ('"hello world"', '"hello world"'),
        ("123456", "123456"),
        ("0.05", "0.05"),
        ("true", "true"),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ("((1) + 2)", "1 + 2"),
        ("1 * 2 + 3", "1 * 2 + 3"),
        ("1 * (2 + (3))", "1 * (2 + 3)"),
        ("(1 + 2) * 3", "1 + 2 * 3"),
        ("1*3 + (4 * 4) + 1", "1 * 3 + 4 * 4 + 1"),
        ("1/(3 * 3)", "1 / (3 * 3)"),
        ("1 * (1 + (2 * (3 + 4 * (5 + 6))))", "1 * (1 + 2 * (3 + 4 * (5 + 6)))"),
        ("a && (b || c)", "a && (b || c)"),
        ("a || (b && c)", "a || b && c"),
        ("a ~> (b + c)", "a ~> b + c"),
        ("!(a > b)", "!a > b"),
        ("-x", "-x"),
        ('file("s3://b/x")', 'file("s3://b/x")'),
        ("len(   [ 1, 2,     35] )", "len([1, 2, 35])"),
        ("int( 1.5 )", "int(1.5)"),
        ("(a, b)", "(a, b)"),
        ("{a: 1, b: 2}", "{a:1, b:2)"),
        ("[1: 2, 3: 4]", "[1: 2, 3: 4]"),
        ("[:]", "[]"),
        ("#T", "#T"),
        ("#T(1)", "#T(<int>const(1))"),
        ("x.y[1]", "x.y[1]"),
        ("if a { b } else { c }", "if a { {...; b} } else { {...; {...; c}} }"),
        ("switch x { case (y, _): y case #A: 2 }", "switch x { case (y, _): y case #A: 2 }"),
        ("func(x int) => x", "<func>"),
        ("func(x int) int => x", "<func>"),
        ('exec() (o file) {" "}', "<exec>"),
        ("[x | x <- y]", "<compr>"),
        ('make("m")', "<make>"),
        ("{ x := 1; x }", "{...; x}"),
    ],
)
def test_expressions_are_shown_in_short(text: str, short: str) -> None:
    assert abbreviate(parse_expr(Source("", text))) == short


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x", 'ident("x")'),
        ('"a"', '<string>const("a")'),
        ("-x", 'unop("-", ident("x")'),
        ("[b: 2, a: 1]", 'map(ident("a"):<int>const(1), ident("b"):<int>const(2))'),
        ("func(x, y int, z string) => x", 'func((x, y int, z string) => ident("x"))'),
        (
            'exec(image) (o file) {" a{{x}} "}',
            '<(o file)>exec(decls(assign(image, ident("image"))), (o file), " a{{x}} ")',
        ),
        ("{ type t int; x }", "<int>type(t int)"),
    ],
)
def test_trees_name_every_part(text: str, tree: str) -> None:
    assert tree in tree_text(parse_expr(Source("", text)))
