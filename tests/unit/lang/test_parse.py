"""What programs are parsed into: trees, positions, spans."""

from __future__ import annotations

import re

import pytest

from reflow.lang.parse import parse_decls, parse_expr, parse_module, parse_pattern, parse_type
from reflow.lang.pretty import decl_text, pattern_text, tree_text
from reflow.lang.source import Pos, Source
from reflow.lang.syntax import (
    Apply,
    Ascribe,
    Assign,
    Binop,
    Block,
    Builtin,
    Compr,
    Cond,
    Declare,
    EnumClause,
    ErrorDecl,
    ExecExpr,
    Expr,
    Func,
    Ident,
    IdentPattern,
    ListPattern,
    RequiresExpr,
    StructPattern,
    Switch,
    TypeDecl,
)


def expr(text: str) -> Expr:
    return parse_expr(Source("", text))


def brief(tree: str) -> str:
    """A tree with its names and constants bare."""
    tree = re.sub(r'ident\("([^"]*)"\)', r"\1", tree)
    return re.sub(r"(?:<\w+>)?const\(([^()]*)\)", r"\1", tree)


def shape(text: str) -> str:
    return brief(tree_text(expr(text)))


def decl(text: str) -> Assign:
    (only,) = parse_decls(Source("m.rf", text))
    assert isinstance(only, Assign)
    return only


def at(pos: Pos) -> str:
    """A position without its file; empty when it is not set."""
    return str(pos).partition(":")[2]


def span(text: str, pos: Pos) -> str:
    return text[pos.start : pos.end]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", 'binop(a, "+", binop(b, "*", c))'),
        ("a * b + c", 'binop(binop(a, "*", b), "+", c)'),
        ("a - b - c", 'binop(binop(a, "-", b), "-", c)'),
        ("a == b == c", 'binop(binop(a, "==", b), "==", c)'),
        ("1 << 2 + 3", 'binop(binop(1, "<<", 2), "+", 3)'),
        ("a - -b", 'binop(a, "-", unop("-", b)'),
        ("-a.b", 'unop("-", deref(a, b)'),
        ("!f(x)", 'unop("!", apply(f(x))'),
        ("-a + b", 'binop(unop("-", a, "+", b)'),
        ("- - !a", 'unop("-", unop("-", unop("!", a'),
        ("f(x)(y)[z].w", "deref(index(apply(apply(f(x))(y)), z), w)"),
        ("f(a, b,)", "apply(f(a, b))"),
        ("a\n(b)", "apply(a(b))"),
        ("x..y", "deref(x, y)"),
        ("((x))", "x"),
        ("(a, b)", "tuple(a, b)"),
        ("(a, b,)", "tuple(a, b)"),
        ("{a}", "struct(a:a)"),
        ("{a: 1, b,}", "struct(a:1, b:b)"),
        ("[]", "list()"),
        ("[,]", "list()"),
        ("[1, 2,]", "list(1, 2)"),
        ("[1, ...a ...b]", 'binop(binop(list(1), "+", a), "+", b)'),
        ("[...a]", 'binop(list(), "+", a)'),
        ("[1 ...a; ...b;,]", 'binop(binop(list(1), "+", a), "+", b)'),
        ("[:]", "map()"),
        ("[a: 1, b: 2,]", "map(a:1, b:2)"),
        ("[a: 1, ...m ...n]", 'binop(n, "+", binop(m, "+", map(a:1)))'),
        ("#A", "variant(#A)"),
        ("#A (1)", "variant(#A, 1)"),
        ("#A.x", "deref(variant(#A), x)"),
        ("func(x int) => x ~> 2", 'func((x int) => binop(x, "~>", 2))'),
        ("a + func(x int) => x + 1", 'binop(a, "+", func((x int) => binop(x, "+", 1)))'),
        ("func(x, y int, z string) => x", "func((x, y int, z string) => x)"),
        ("func(x int) int => x", "<int>ascribe(func((x int) => x))"),
        ("if a {1} else {2}", "cond(a, block( in 1), block( in block( in 2)))"),
        (
            "if a {1} else if b {2} else {3}",
            "cond(a, block( in 1), cond(b, block( in 2), block( in block( in 3))))",
        ),
        (
            "if a {1} else {2} + 3",
            'binop(cond(a, block( in 1), block( in block( in 2))), "+", 3)',
        ),
        ("switch x {} + 3", 'binop(switch(x, cases()), "+", 3)'),
        ("switch x { case _: 1 case #A(y): y }", "switch(x, cases(case(_, 1), case(#A(y), y)))"),
        ("switch x { case _: y := z; y }", "switch(x, cases(case(_, block(assign(y, z) in y))))"),
        ("[x | x <- l, if p]", "compr(x, enum(l, x), filter(p))"),
        ("{ x := y; x; }", "block(assign(x, y) in x)"),
        ("int(x)", "builtin(int, x)"),
        ("float(int(x))", "builtin(float, builtin(int, x))"),
        ("make(1)", "make(1, )"),
        ("make(1, a, b := c,)", "make(1, assign(a, a), assign(b, c))"),
        ("make(1,,)", "make(1, )"),
        ("file(x)", "apply(file(x))"),
        ("dir", "dir"),
    ],
)
def test_expressions_have_their_tree(text: str, tree: str) -> None:
    assert shape(text) == tree


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a ~> b || c && d < e", "a ~> (b || (c && (d < e)))"),
        ("a < b && c || d ~> e", "(((a < b) && c) || d) ~> e"),
        ("a ~> b ~> c", "(a ~> b) ~> c"),
        ("a + b < c - d && e * f >= g", "((a + b) < (c - d)) && ((e * f) >= g)"),
        ("a & b % c >> d / e * f", "((((a & b) % c) >> d) / e) * f"),
        ("a != b <= c > d", "((a != b) <= c) > d"),
        ("a * -b + !c", "(a * (-b)) + (!c)"),
    ],
)
def test_operators_bind_by_precedence_and_to_the_left(text: str, grouped: str) -> None:
    assert shape(text) == shape(grouped)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("val x = a", "assign(x, a)"),
        ("val x int = a", "assign(x, <int>ascribe(a))"),
        ("val (a, _, [b, ...], {c, d: #E(f)}) = g", "assign((a, _, [b, ..._], {c:c, d:#E(f)}), g)"),
        ("val #Foo (x) = y", "assign(#Foo(x), y)"),
        ("x := a", "assign(x, a)"),
        ("func f(x int) = x", "assign(f, func((x int) => x))"),
        ("func f(x int) int = x", "assign(f, <func(x int) int>ascribe(func((x int) => x)))"),
        ("type t [int]", "<[int]>type(t [int])"),
        ("@requires(cpu := a, mem) x := y", "assign(x, resources(y, assign(cpu, a), assign(mem, mem)))"),
        ("@requires() @requires(mem) x := y", "assign(x, resources(resources(y, assign(mem, mem)), ))"),
    ],
)
def test_declarations_have_their_tree(text: str, tree: str) -> None:
    (only,) = parse_decls(Source("", text))
    assert brief(decl_text(only)) == tree


def test_a_module_has_keyspace_parameters_and_declarations() -> None:
    module = parse_module(
        Source(
            "m.rf",
            ';keyspace "k"\n;param (\n a, b int\n c = 1\n)\nparam d int = 2\nval X = a\ntype T int'[1:],
        )
    )
    assert tree_text(module.keyspace) == '<string>const("k")' if module.keyspace else False
    assert [type(each) for each in module.params] == [Declare, Declare, Assign, Assign]
    assert [type(each) for each in module.decls] == [Assign, TypeDecl]
    assert module.source.name == "m.rf"


@pytest.mark.parametrize("text", ["", "\n", "// nothing\n", ";", "; ;\n;", "param ()\n"])
def test_modules_may_be_empty(text: str) -> None:
    module = parse_module(Source("", text))
    assert (module.params, module.decls) == ((), ())


def test_several_names_with_one_default_are_an_error_for_later() -> None:
    first, second = parse_module(Source("m.rf", "param a, b = 1\nparam c, d int = 1")).params
    assert isinstance(first, ErrorDecl)
    assert isinstance(second, ErrorDecl)
    assert not first.pos.is_set


@pytest.mark.parametrize(
    "text",
    [
        "int",
        "(int, string)",
        "(x int, y string)",
        "(x, y, z string, blah int)",
        "func(int, string) {x, y, z string}",
        "func(x, y, z file) dir",
        "func(x, y) dir",
        "{a, b (int, {a string, b bool}), c int}",
        "[string:[dir]]",
        "#A | #B(#C | #D(int))",
        "module{a int}",
        "lib.T",
        "(x int)",
    ],
)
def test_types_print_as_they_are_written(text: str) -> None:
    assert str(parse_type(Source("", text))) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(int)", "int"),
        ("((x int))", "int"),
        ("(int int)", "unit"),
        ("(x int, string)", "unit"),
        ("(int, x int)", "unit"),
        ("(a.b int)", "unit"),
        ("func(int int) bool", "func() bool"),
        ("(x, y)", "(x, y)"),
        ("[unit:int]", "error: unit is not a valid map key type"),
        ("#a", 'error: tag "a" does not begin with uppercase'),
        ("#A|#A", 'error: tag "A" is not unique'),
        ("(x [a.b:int])", "error: a.b is not a valid map key type"),
    ],
)
def test_argument_lists_that_mix_come_to_nothing(text: str, shown: str) -> None:
    assert str(parse_type(Source("", text))) == shown


@pytest.mark.parametrize(
    "text",
    ["x", "_", "(a, _)", "[a, b]", "[a, ...b]", "{a:b, c:(d, e)}", "#A", "#A([x])", "(a)"],
)
def test_patterns_print_as_they_are_written(text: str) -> None:
    assert pattern_text(parse_pattern(Source("", text))) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x", "1:2"),
        ("  12 ", "1:5"),
        ("true", "1:5"),
        ("file", "1:5"),
        ("(x + y) * z", "1:3"),
        ("((x))", "1:4"),
        ("f(x)[y].z", "1:2"),
        ("-x", "1:2"),
        ("!x", "1:2"),
        ("if a {1} else {2}", "1:3"),
        ("switch a {}", "1:7"),
        ('exec() (o file) {" "}', "1:5"),
        ('make("x")', "1:5"),
        ("func(x int) => x", "1:5"),
        ("#A(1)", "1:2"),
        ("(1, 2)", "1:2"),
        ("[1]", "1:2"),
        ("[1, ...a ...b]", "1:2"),
        ("[1: 2]", "1:2"),
        ("[x | x <- y]", "1:2"),
        ("{a: 1}", "1:2"),
        ("{ x := 1; x }", "1:2"),
        ("\n\n é + 1", "3:3"),
        ("\tx", "1:3"),
    ],
)
def test_an_expression_is_reported_behind_the_token_that_names_it(text: str, place: str) -> None:
    assert at(expr(text).pos) == place


@pytest.mark.parametrize(
    ("text", "underlined"),
    [
        (" (x + y) * z ", "(x + y) * z"),
        ("a + (b)", "a + (b)"),
        (" f(x, y,) ", "f(x, y,)"),
        ("x.y [ 1 ] ", "x.y [ 1 ]"),
        ("[1,\n2]", "[1,\n2]"),
        ("-x.y", "-x.y"),
        ("if a {1} else {2} ", "if a {1} else {2}"),
        ("{a: 1, }", "{a: 1, }"),
        (" #A ( 1 )", "#A ( 1 )"),
        ("func(x int) => x + 1", "func(x int) => x + 1"),
        ("int( x )", "int( x )"),
    ],
)
def test_the_whole_expression_is_underlined(text: str, underlined: str) -> None:
    assert span(text, expr(text).pos) == underlined


def test_declarations_are_reported_where_the_original_does() -> None:
    assert at(decl("val  x = yy").pos) == "1:12"
    assert at(decl("val  x = yy").pattern.pos) == "1:7"
    assert at(decl("xx := yy").pos) == "1:3"
    function = decl("func f(x int) int = x")
    assert (at(function.pos), at(function.pattern.pos), at(function.expr.pos)) == ("1:5", "1:5", "1:5")
    assert isinstance(function.expr, Ascribe)
    assert not function.expr.expr.pos.is_set
    typed = decl("val x int = yy")
    assert at(typed.expr.pos) == at(typed.pos) == "1:15"
    first, second = parse_module(Source("m.rf", "param aa, b int")).params
    assert (at(first.pos), at(second.pos)) == ("1:9", "1:9")
    assert (first.pos.start, second.pos.start) == (6, 10)


def test_a_function_expression_with_a_result_stands_at_its_body() -> None:
    ascribed = expr("func(x int) R => yy")
    assert isinstance(ascribed, Ascribe)
    assert isinstance(ascribed.expr, Func)
    assert (at(ascribed.pos), at(ascribed.expr.pos)) == ("1:5", "1:20")


def test_short_forms_have_no_position_but_can_be_underlined() -> None:
    text = 'exec(image) (o file) {" "}'
    found = expr(text)
    assert isinstance(found, ExecExpr)
    (image,) = found.decls
    assert isinstance(image, Assign)
    assert (at(image.pos), str(image.expr.pos), span(text, image.expr.pos)) == ("1:11", "<input>", "image")
    struct = parse_pattern(Source("m.rf", "{a}"))
    assert isinstance(struct, StructPattern)
    assert str(struct.fields[0][1].pos) == "<input>"


def test_a_case_with_declarations_is_a_block_without_position() -> None:
    found = expr("switch x { case y: z := 1; z }")
    assert isinstance(found, Switch)
    (case,) = found.cases
    assert at(case.pos) == "1:16"
    assert isinstance(case.expr, Block)
    assert not case.expr.pos.is_set


def test_the_else_branch_is_a_block_around_a_block() -> None:
    found = expr("if a {1} else {2}")
    assert isinstance(found, Cond)
    assert isinstance(found.orelse, Block)
    assert (at(found.orelse.pos), at(found.orelse.result.pos)) == ("1:14", "1:16")


def test_patterns_are_reported_at_their_first_token() -> None:
    found = parse_pattern(Source("m.rf", "[a, ...b]"))
    assert isinstance(found, ListPattern)
    assert isinstance(found.tail, IdentPattern)
    assert (at(found.pos), at(found.tail.pos)) == ("1:2", "1:9")
    bare = parse_pattern(Source("m.rf", "[a, ...]"))
    assert isinstance(bare, ListPattern)
    assert bare.tail is not None
    assert at(bare.tail.pos) == "1:8"


def test_clauses_have_no_position() -> None:
    found = expr("[x | y <- z, if w]")
    assert isinstance(found, Compr)
    first, second = found.clauses
    assert isinstance(first, EnumClause)
    assert not first.pos.is_set
    assert not second.pos.is_set


@pytest.mark.parametrize(
    ("text", "place"), [("n + int(2.5)", "1:2"), ("[1, float(x)]", "1:3"), ("int(1)", "1:4")]
)
def test_a_conversion_is_reported_at_the_operand_before_it(text: str, place: str) -> None:
    found = expr(text)
    inner = found.right if isinstance(found, Binop) else getattr(found, "items", (None, found))[1]
    assert isinstance(inner, Builtin)
    assert at(inner.pos) == place


def test_requires_keeps_the_position_of_the_expression() -> None:
    found = decl("@requires(cpu)\nval x = yy").expr
    assert isinstance(found, RequiresExpr)
    assert at(found.pos) == at(found.expr.pos) == "2:11"


def test_a_template_is_split_at_its_interpolations() -> None:
    found = expr('exec() (o file) {" a {{x}}{{ f( y ) }}\n b{c} {{z}}"}')
    assert isinstance(found, ExecExpr)
    template = found.template
    assert template.text == " a {{x}}{{ f( y ) }}\n b{c} {{z}}"
    assert template.fragments == (" a ", "", "\n b{c} ", "")
    assert [brief(tree_text(each)) for each in template.args] == ["x", "apply(f(y))", "z"]


@pytest.mark.parametrize("text", [" ", "x", '"', ' "x" } ', "}}", "{ {", "\\n \t", "é\udcff", "\r\n"])
def test_a_template_is_taken_as_it_is(text: str) -> None:
    found = expr(f'exec() (o file) {{"{text}"}}')
    assert isinstance(found, ExecExpr)
    assert (found.template.text, found.template.fragments, found.template.args) == (text, (text,), ())


@pytest.mark.parametrize("inner", ["x", " x ", "\n\tx\n", "(x)", "x.y", "file", "true", "1"])
def test_an_interpolation_is_a_source_of_its_own(inner: str) -> None:
    outer = Source("m.rf", f'exec() (o file) {{" é {{{{{inner}}}}} "}}')
    found = parse_expr(outer)
    assert isinstance(found, ExecExpr)
    (arg,) = found.template.args
    alone = parse_expr(Source("", inner))
    assert str(arg.pos) == str(alone.pos)
    assert tree_text(arg) == tree_text(alone)
    inside = arg.pos.source
    assert inside.outer is outer
    assert outer.text[inside.outer_offset :].startswith(inner)


def test_newlines_in_an_interpolation_are_blanks() -> None:
    found = expr('exec() (o file) {" {{ f\n(x) // c\n }} "}')
    assert isinstance(found, ExecExpr)
    assert isinstance(found.template.args[0], Apply)


@pytest.mark.parametrize("text", ["f(\nx,\n)", "[\n1,\n]", "(\n1,\n2,\n)", "{\na: 1,\n}", "x +\ny"])
def test_lines_may_break_after_what_cannot_end_a_statement(text: str) -> None:
    assert tree_text(decl(f"val x = {text}").expr) == tree_text(expr(text))


def test_names_keep_their_spelling() -> None:
    found = expr("Éa_1")
    assert isinstance(found, Ident)
    assert found.name == "Éa_1"
