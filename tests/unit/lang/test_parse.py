"""What programs are parsed into: trees, positions, spans."""

from __future__ import annotations

import pytest

from reflow.lang.parse import parse_decls, parse_expr, parse_module, parse_pattern, parse_type
from reflow.lang.pretty import decl_text, pattern_text, tree_text
from reflow.lang.source import Source
from reflow.lang.syntax import (
    Assign,
    Binop,
    Block,
    Compr,
    Cond,
    Declare,
    EnumClause,
    ErrorDecl,
    ExecExpr,
    Expr,
    Func,
    Ident,
    Make,
    RequiresExpr,
    Switch,
    TypeDecl,
)


def expr(text: str) -> Expr:
    return parse_expr(Source("", text))


def bare(text: str) -> str:
    """The tree of an expression; types of literals are left out."""
    return tree_text(expr(text)).replace("<int>", "").replace("<string>", "")


def decl(text: str) -> Assign:
    (only,) = parse_decls(Source("m.rf", text))
    assert isinstance(only, Assign)
    return only


def body(text: str) -> Expr:
    return decl(text).expr


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", 'binop(ident("a"), "+", binop(ident("b"), "*", ident("c")))'),
        ("a * b + c", 'binop(binop(ident("a"), "*", ident("b")), "+", ident("c"))'),
        ("a - b - c", 'binop(binop(ident("a"), "-", ident("b")), "-", ident("c"))'),
        ("a == b == c", 'binop(binop(ident("a"), "==", ident("b")), "==", ident("c"))'),
        ("1 << 2 + 3", 'binop(binop(const(1), "<<", const(2)), "+", const(3))'),
        ("a ~> b || c && d < e", "a ~> (b || (c && (d < e)))"),
        ("a < b && c || d ~> e", "(((a < b) && c) || d) ~> e"),
        ("a ~> b ~> c", "(a ~> b) ~> c"),
        ("a + b < c - d && e * f >= g", "((a + b) < (c - d)) && ((e * f) >= g)"),
        ("a & b % c >> d", "((a & b) % c) >> d"),
        ("a - -b", 'binop(ident("a"), "-", unop("-", ident("b"))'),
        ("-a.b", 'unop("-", deref(ident("a"), b)'),
        ("!f(x)", 'unop("!", apply(ident("f")(ident("x")))'),
        ("-a + b", 'binop(unop("-", ident("a"), "+", ident("b"))'),
        ("- - !a", 'unop("-", unop("-", unop("!", ident("a")'),
        ("f(x)(y)[z].w", 'deref(index(apply(apply(ident("f")(ident("x")))(ident("y"))), ident("z")), w)'),
        ("f(a, b,)", 'apply(ident("f")(ident("a"), ident("b")))'),
        ("a\n(b)", 'apply(ident("a")(ident("b")))'),
        ("((x))", 'ident("x")'),
        ("(a, b)", 'tuple(ident("a"), ident("b"))'),
        ("(a, b,)", 'tuple(ident("a"), ident("b"))'),
        ("{a}", 'struct(a:ident("a"))'),
        ("{a: 1, b,}", 'struct(a:const(1), b:ident("b"))'),
        ("[]", "list()"),
        ("[,]", "list()"),
        ("[1, 2,]", "list(const(1), const(2))"),
        ("[1, ...a ...b]", 'binop(binop(list(const(1)), "+", ident("a")), "+", ident("b"))'),
        ("[...a]", 'binop(list(), "+", ident("a"))'),
        ("[1 ...a; ...b;,]", 'binop(binop(list(const(1)), "+", ident("a")), "+", ident("b"))'),
        ("[:]", "map()"),
        ("[a: 1, b: 2,]", 'map(ident("a"):const(1), ident("b"):const(2))'),
        ("[a: 1, ...m ...n]", 'binop(ident("n"), "+", binop(ident("m"), "+", map(ident("a"):const(1))))'),
        ("#A", "variant(#A)"),
        ("#A (1)", "variant(#A, const(1))"),
        ("#A.x", "deref(variant(#A), x)"),
        ("func(x int) => x ~> 2", 'func((x int) => binop(ident("x"), "~>", const(2)))'),
        ("a + func(x int) => x + 1", 'binop(ident("a"), "+", func((x int) => binop(ident("x"), "+", const(1))))'),
        ("func(x, y int, z string) => x", 'func((x, y int, z string) => ident("x"))'),
        ("func(x int) int => x", '<int>ascribe(func((x int) => ident("x")))'),
        ("if a {1} else {2} + 3", 'binop(cond(ident("a"), block( in const(1)), block( in block( in const(2)))), "+", const(3))'),
        ("switch x {} + 3", 'binop(switch(ident("x"), cases()), "+", const(3))'),
        ("switch x { case _: 1 case #A(y): y }", 'switch(ident("x"), cases(case(_, const(1)), case(#A(y), ident("y"))))'),
        ("switch x { case _: y := 1; y }", 'switch(ident("x"), cases(case(_, block(assign(y, const(1)) in ident("y")))))'),
        ("[x | x <- l, if p]", 'compr(ident("x"), enum(ident("l"), x), filter(ident("p")))'),
        ("{ val x = 1; x }", 'block(assign(x, const(1)) in ident("x"))'),
        ("{ x := 1; x; }", 'block(assign(x, const(1)) in ident("x"))'),
        ("int(x)", 'builtin(int, ident("x"))'),
        ("float(int(x))", 'builtin(float, builtin(int, ident("x")))'),
        ('make("m")', 'make(const("m"), )'),
        ('make("m", a, b := 1,)', 'make(const("m"), assign(a, ident("a")), assign(b, const(1)))'),
        ('make("m",,)', 'make(const("m"), )'),
        ('make(1)', "make(const(1), )"),
        ('file("x")', 'apply(ident("file")(const("x")))'),
        ("dir", 'ident("dir")'),
    ],
)  # fmt: skip
def test_expressions(text: str, tree: str) -> None:
    assert bare(text) == (tree if "(" in tree and '"' in tree or tree.endswith(")") and "~>" not in tree else bare(tree))


def test_operators_associate_to_the_left_and_bind_by_precedence() -> None:
    for text, grouped in [
        ("a ~> b || c && d < e", "a ~> (b || (c && (d < e)))"),
        ("a < b && c || d ~> e", "(((a < b) && c) || d) ~> e"),
        ("a ~> b ~> c", "(a ~> b) ~> c"),
        ("a + b < c - d && e * f >= g", "((a + b) < (c - d)) && ((e * f) >= g)"),
        ("a & b % c >> d", "((a & b) % c) >> d"),
    ]:
        assert bare(text) == bare(grouped)
