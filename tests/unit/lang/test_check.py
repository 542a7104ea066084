from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from reflow.lang import syntax
from reflow.lang.check import RULES, check_expr_standalone
from reflow.lang.checker import _PARTS
from reflow.lang.constness import is_const
from reflow.lang.diagnostic import SourceError
from reflow.lang.module_info import ModuleInfo
from reflow.lang.parse import parse_expr
from reflow.lang.source import Source
from reflow.lang.types import CAN_CONST, CONST, INT, NOT_CONST, Type, flow_of
from tests.module_texts import TextModule, TextOpener


def type_of(text: str) -> Type:
    return check_expr_standalone(parse_expr(Source("", text)))


def module(text: str, **others: str) -> TextModule:
    opened = TextOpener({"main.rf": text, **{f"{name}.rf": each for name, each in others.items()}}).load(
        "main.rf"
    )
    assert isinstance(opened, TextModule)
    return opened


def info(text: str, **others: str) -> ModuleInfo:
    return module(text, **others).info


def errors(text: str) -> str:
    with pytest.raises(SourceError) as caught:
        module(text)
    return str(caught.value)


def nodes(tree: Any) -> Iterator[Any]:
    """Everything in a tree that has slots of ours, without types."""
    if isinstance(tree, tuple | list):
        for each in tree:
            yield from nodes(each)
    elif is_dataclass(tree):
        yield tree
        for each in fields(tree):
            yield from nodes(getattr(tree, each.name, None))


# --------------------------------------------------------------------------------------- the rules


def test_every_class_of_expression_has_a_rule_and_parts_to_look_through() -> None:
    classes = {
        each
        for each in vars(syntax).values()
        if isinstance(each, type) and issubclass(each, syntax.Expr) and each is not syntax.Expr
    }
    assert set(RULES) == classes
    assert set(_PARTS) == classes - {syntax.Binop}


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ('{f1: 123, f2: "okay", f3: [1, 2, 3]}', "{f1 int, f2 string, f3 [int]}"),
        ('[{f1: 123, f2: "blah"}, {f2: "ok", f3: 321}]', "[{f2 string}]"),
        ("{foo := 123; bar := foo; bar}", "int"),
        ('{x := 1; y := "a"; z := 2.33; {x, y, z}}', "{x int, y string, z float}"),
        ('if 1 == 2 { "ok" } else { "not ok" }', "string"),
        ("func(a, b string) => a + b", "func(a, b string) string"),
        ("func(a int, f func(int) string) => f(a)", "func(a int, f func(int) string) string"),
        ('exec(image := "i") (hello file) {" {{hello}} {{"ok"+"blah" }} "}', "(hello file)"),
        ('exec(image := "i") (a, b file, c dir) {" x "}', "(a, b file, c dir)"),
        ("[]", "[bottom]"),
        ("[:]", "[top:bottom]"),
        ("(func(x [string:int]) => x)([:])", "[string:int]"),
        ("{val x [int:int] = [:]; x}", "[int:int]"),
        ("[] + [1]", "[int]"),
        ("[1] + []", "[int]"),
        ("[:] + [1: 1]", "[int:int]"),
        ("[1: 1] + [:]", "[int:int]"),
        ("[#A, #B(1), #A]", "[#A | #B(int)]"),
        ('[(k, v) | (k, v) <- [1: file("x")]]', "[(int, file)]"),
        ("switch (1, #A) { case (x, _): x }", "int"),
        ('panic("x")', "bottom"),
        ('fold(func(a, b int) => panic("x"), [1], 2)', "bottom"),
    ],
)
def test_types_of_expressions(text: str, type: str) -> None:
    # Source: syntax/type_test.go, TestSynth, and more
    assert str(type_of(text)) == type


@pytest.mark.parametrize(
    ("text", "is_flow"),
    [
        ('{f1: 123, f2: "okay", f3: [1, 2, 3]}', False),
        ('({x: file("x")}).x', True),
        ('"x" + "y"', False),
        ('exec(image := "blah") (ok dir) {" "}', True),
        ('{val (x, _) = (exec(image := "blah") (ok dir) {" "}, 123); x}', True),
        ("{x := 1; y := 2; x + y}", False),
        ("{x := 1; y := delay(2); x + y}", True),
        ('{x := file("x"); y := 2; len(x) + y}', True),
        ("[delay(1)]", False),
        ("delay([1])[0]", False),
        ("delay(1) ~> 2", True),
    ],
)
def test_what_is_known_to_be_delayed(text: str, is_flow: bool) -> None:
    assert type_of(text).is_flow is is_flow


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('{f1: 123, f2: "okay", f3: delay(3)}', CAN_CONST),
        ('({f1: 123, f2: "okay", f3: delay(3)}).f2', CONST),
        ('({x := {f1: 123, f2: "okay", f3: delay(3)}; x}).f2', NOT_CONST),
        ('({f1: 123, f2: "okay", f3: delay(3)}).f3', NOT_CONST),
        ('delay({f1: 123, f2: "okay", f3: delay(3)}).f2', NOT_CONST),
        ('["x": 1, "y": 2]["x"]', CONST),
        ('["x": 1, "y": 2]', CONST),
        ('["x": 1, "y": delay(2)]["x"]', NOT_CONST),
        ("{fn := func(x int) => x; fn(123)}", NOT_CONST),
        ("{x := delay(123); 123}", CONST),
        ("{x := delay(123); 123 + x}", NOT_CONST),
        ("[1, 2, 3] + [4, 5, 6]", CONST),
        ("[1, 2, 3] + [4, 5, 6] + delay([])", NOT_CONST),
        ('{val (x, _) = ("ok", delay(2)); x}', NOT_CONST),
        ("1 > 2", CONST),
        ('[1, 2][0] > ({x: 2, y: delay("x")}).x', CONST),
        ("90 * 90", CONST),
    ],
)
def test_what_is_known_to_be_constant(text: str, level: int) -> None:
    # Source: syntax/type_test.go, TestConst
    assert type_of(text).level == level


def test_every_expression_of_a_checked_module_has_a_type() -> None:
    text = """
param p = 1 + 2
func f(x int) int = if x == p { x } else { -x }
val A = [f(y) | (y, _) <- zip([1], [float(2)]), if y > 0] + [1 ...[2]]
val B = exec(image := "i" + "j") (out file) {" {{A[0]}} {{out}} "}
val C = switch #T({a: (1, B)}) { case #T({a: (n, _)}): [n: len(B)][n] }
@requires(cpu := 1)
val D = {m := make("./m.rf", q := trace(1)); m.X ~> delay(m.Y)}
"""
    opener = TextOpener({"main.rf": text, "m.rf": "param q int\nval X = q\nval Y = q"})
    opened = opener.load("main.rf")
    assert isinstance(opened, TextModule)
    parsed = opened.parsed
    expressions = [each for each in nodes(parsed) if isinstance(each, syntax.Expr)]
    builtins = {each.builtin for each in expressions if isinstance(each, syntax.Apply)}
    untyped = [
        each
        for each in expressions
        if not hasattr(each, "type") and not (isinstance(each, syntax.Ident) and each.name in builtins)
    ]
    assert untyped == []
    assert builtins == {None, "zip", "len", "trace", "delay"}
    assert [each.module for each in expressions if isinstance(each, syntax.Make)] == [opener.load("m.rf")]


def test_functions_have_at_most_128_arguments() -> None:
    names = ", ".join([f"a{number}" for number in range(129)])
    assert (
        errors(f"func f({names} int) = 1\nval F = 1\n") == "<input>: functions can have at most 128 arguments"
    )
    assert module(f"func F({names.removesuffix(', a128')} int) = 1\n").type.field("F") is not None


# ------------------------------------------------------------------------------------- expressions


def test_an_expression_for_itself_sees_the_base_environment_only() -> None:
    assert str(type_of('(file("x"), 4 * GiB)')) == "(file, int)"
    with pytest.raises(SourceError, match=r'^<input>:1:2: identifier "x" not defined$'):
        type_of("x")
    with pytest.raises(SourceError, match=r"failed to open module \./m\.rf: there are no modules here"):
        type_of('make("./m.rf")')


def test_what_is_nested_too_deeply_is_an_error_with_a_place() -> None:
    text = "[" * 150 + "]" * 150
    tree, source = parse_expr(Source("", text)), "val a = 1\nval X = " + text
    opener = TextOpener({"main.rf": source})
    parsed = opener.parse("main.rf")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(_depth() + 120)
    try:
        with pytest.raises(SourceError, match=r"^<input>:1:2: expression is nested too deeply$"):
            check_expr_standalone(tree)
        with pytest.raises(SourceError, match=r"^main.rf:2:10: expression is nested too deeply$"):
            opener.check(parsed, "")
    finally:
        sys.setrecursionlimit(limit)


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_long_chains_of_operators_need_no_depth() -> None:
    tree = parse_expr(Source("", " + ".join(["1"] * 1500)))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(_depth() + 60)
    try:
        assert str(check_expr_standalone(tree)) == "int"
    finally:
        sys.setrecursionlimit(limit)


# ----------------------------------------------------------------------------------------- modules


def test_what_a_module_exports() -> None:
    text = """
// Doc of A.
val A = 1
type T [int]
// Doc of U.
type U {a T}
type hidden int
val (B, [c, ...D]) = ("s", [1])
// Unexported.
func e(x hidden) = x
val F = c + e(1)
"""
    found = info(text)
    assert str(found.type) == "module{A int, B string, D [int], F int, type T [int], type U {a [int]}}"
    assert found.docs["A"] == "Doc of A.\n"
    assert found.docs["U"] == "Doc of U.\n"
    assert found.docs["e"] == "Unexported.\n"
    assert "hidden" not in found.docs


def test_a_name_exported_twice_is_there_twice() -> None:
    assert str(info('val A = 1\nval A = "s"\n').type) == "module{A int, A string}"


def test_parameters_with_their_types_in_order() -> None:
    params = info("param (\n\t// Of a.\n\ta, b int\n\tc = delay(1)\n)\nparam d [int] = []\n").params
    assert [(each.name, str(each.type), type(each.decl).__name__) for each in params] == [
        ("a", "int", "Declare"),
        ("b", "int", "Declare"),
        ("c", "int", "Assign"),
        ("d", "[int]", "Assign"),
    ]


def test_constness_hangs_on_the_parameters_that_are_constant() -> None:
    found = info('param x = 123\nval X = x\nval Y = "constant"\nval Z = x * x\n')
    delayed = found.type_with({"x": flow_of(INT)})
    constant = found.type_with({"x": type_of("321")})

    def constants(type: Any) -> list[str]:
        return [each.name for each in type.fields if is_const(each.type)]

    assert constants(found.type) == ["X", "Y", "Z"]
    assert constants(constant) == ["X", "Y", "Z"]
    assert constants(delayed) == ["Y"]


def test_constness_goes_through_make() -> None:
    # Source: syntax/type_test.go, TestConstModule
    inner = 'param x = 123\nval X = x\nval Y = "constant"\nval Z = x * x\n'
    outer = """
val NotConst1 = make("./m.rf", x := delay(321)).X
val m = make("./m.rf", x := 321)
val Const2 = m.Y
val Const3 = m.Z
val Const4 = make("./m.rf", x := delay(321)).Y
val NotConst2 = { x := Const3; x }
"""
    for field in info(outer, m=inner).type.fields:
        assert is_const(field.type) is field.name.startswith("Const"), field


# --------------------------------------------------------------------------------- order of messages


def test_errors_are_told_from_the_parameters_down_and_all_at_once() -> None:
    text = "param a = nope\nval B = missing\ntype T gone\nval C = 1 + true\n"
    assert errors(text).split("\n") == [
        'main.rf:1:15: identifier "nope" not defined',
        'main.rf:2:16: identifier "missing" not defined',
        "main.rf:3:5: type alias gone not found",
        'main.rf:4:10: cannot apply binary operator "+" to type int and bool',
    ]


def test_warnings_come_from_inner_scopes_first_and_cases_from_the_last_up() -> None:
    opener = TextOpener(
        {
            "main.rf": """
a := switch [1] {
	case [x]: [1 | q <- [1]]
	case [y, ...]:
		w := 2
		[3]
	case _: [4]
}
val b = {
	d := 1
	c := 2
	3
}
"""
        }
    )
    opener.load("main.rf")
    assert [text.split()[0] for _, text in opener.warnings] == ["q", "w", "y", "x", "d", "c", "a", "b"]


def test_an_error_inside_a_block_is_told_with_the_declaration_first() -> None:
    text = "val A = {\n\tval (x, y) = (1, nope)\n\tx\n}\n"
    assert errors(text).split("\n") == [
        'main.rf:2:16: identifier "nope" not defined',
        'main.rf:2:23: identifier "nope" not defined',
    ]
