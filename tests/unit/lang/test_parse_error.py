"""What the parser refuses, how it says so, and what it survives."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reflow.lang import parse
from reflow.lang.depth import MAX_DEPTH
from reflow.lang.diagnostic import SourceError
from reflow.lang.parse import parse_decls, parse_expr, parse_module, parse_pattern, parse_type
from reflow.lang.source import Source

PARSERS = {
    "module": parse_module,
    "decls": parse_decls,
    "expr": parse_expr,
    "type": parse_type,
    "pattern": parse_pattern,
}


def refusal(kind: str, text: str) -> str:
    with pytest.raises(SourceError) as caught:
        PARSERS[kind](Source("m.rf", text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "place", "rest"),
    [
        ("x = 3", "1:4", "'=', expecting tokAssign"),
        ("(a, b) := (1, 2)", "1:2", "'(', expecting tokEOF"),
        ('import "x"', "1:7", "tokReserved, expecting tokEOF"),
        ("val force = 2", "1:10", "tokReserved"),
        ("val case = 2", "1:9", "tokCase"),
        ("val A = f()", "1:12", "')'"),
        ("val A = ()", "1:11", "')'"),
        ("val A = (1,)", "1:13", "')'"),
        ("val A = (1", "1:11", "';'"),
        ("val A = 1\n\t+ 2", "2:3", "'+', expecting tokEOF"),
        ("val A = 1 ~ 2", "1:12", "$unk, expecting ';'"),
        ("val A = 'a'", "1:12", "$end"),
        ("val A = 1 | 2", "1:12", "'|', expecting ';'"),
        ("val A = if true { 1 }\n", "2:1", "';', expecting tokElse"),
        ("val A = if true { 1 }\nelse { 2 }", "2:1", "';', expecting tokElse"),
        ('val A = if c {"y"} else {"n"}', "1:19", "tokTemplate"),
        ("val A = [\n1,\n2\n]", "4:1", "';', expecting tokEllipsis or ']'"),
        ("val A = [1, ...a, ...b]", "1:22", "tokEllipsis, expecting ']'"),
        ('val A = ["a": 1, 2]', "1:20", "']'"),
        ("val A = [x | ]", "1:15", "']'"),
        ("val A = make(p)", "1:15", "tokIdent, expecting tokExpr"),
        ("val A = 1;;", "1:12", "';', expecting tokEOF"),
        ("val A = 1\n}", "2:2", "'}', expecting tokEOF"),
        ("@requires(cpu := 1)", "1:20", "tokEOF, expecting tokIdent or tokAt or tokVal or tokFunc"),
        ("@memoize(true)\nval A = 1", "1:9", "tokIdent, expecting tokRequires"),
        ("func f(x int) int { x }", "1:20", "'{', expecting '='"),
        ("func f() = 1", "1:9", "')', expecting tokIdent"),
        ("func f(s {}) = 1", "1:12", "'}', expecting tokIdent"),
        ("type T {a, b}", "1:14", "'}'"),
        ("type T | #A", "1:9", "'|'"),
        ("param (a, b) = (1, 2)", "1:13", "')'"),
        ("param (\na int b int\n)", "2:8", "tokIdent, expecting ';'"),
        ("val [...a, b] = c", "1:9", "tokEllipsis"),
        ("val x = (1 // c\nval y = 2", "2:4", "';'"),
        ("val x = a b\n", "1:12", "tokIdent, expecting ';'"),
        ("val x = a == ~> b", "1:16", "tokSquiggleArrow"),
        ("val x = a == <= b", "1:16", "tokLE"),
        ("val x = a == * b", "1:15", "'*'"),
        ("val x = 1\0", "1:11", "$end, expecting ';'"),
    ],
)
def test_a_syntax_error_names_what_came_and_what_could_have(text: str, place: str, rest: str) -> None:
    assert refusal("module", text) == f"m.rf:{place}: syntax error: unexpected {rest}"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("type", "[:int]"),
        ("type", "{x, y, z}"),
        ("type", "{}"),
        ("type", "()"),
        ("type", "func() int"),
        ("pattern", ""),
        ("pattern", "[]"),
        ("pattern", "[...]"),
        ("pattern", "[..., a]"),
        ("pattern", "[a, ..., b]"),
        ("pattern", "1"),
        ("pattern", '"a"'),
        ("expr", ""),
        ("expr", "a b"),
        ("expr", "{}"),
        ("expr", "{ x }  y"),
        ("expr", "(1,)"),
        ("expr", 'exec(a,) (o file) {" "}'),
        ("expr", 'exec() {" "}'),
        ("expr", "func() => 1"),
        ("expr", "a[1, 2]"),
        ("decls", "x := 1 y := 2"),
        ("decls", "param x int"),
        ("decls", ";"),
    ],
)
def test_what_is_not_of_the_language_is_refused(kind: str, text: str) -> None:
    assert "syntax error: unexpected " in refusal(kind, text)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (
            "val B = 3e",
            [
                '1:11: failed to parse float "3e": number has no digits',
                "1:11: syntax error: unexpected tokError",
            ],
        ),
        (
            "val B = (int 0x1",
            [
                '1:17: failed to parse integer "0x1"',
                "1:17: syntax error: unexpected tokError, expecting '('",
            ],
        ),
        (
            "type T (a, b int, string) int",
            [
                "1:26: cannot mix named and unnamed arguments",
                "1:30: syntax error: unexpected tokInt, expecting ';'",
            ],
        ),
        (
            "type T (int int) int",
            [
                "1:17: expected identifier, found int",
                "1:21: syntax error: unexpected tokInt, expecting ';'",
            ],
        ),
        (
            "type T (a.b int) int",
            ["1:17: non-simple argument name", "1:21: syntax error: unexpected tokInt, expecting ';'"],
        ),
    ],
)
def test_errors_before_the_syntax_error_are_told_too(text: str, errors: list[str]) -> None:
    assert refusal("module", text).split("\n") == [f"m.rf:{each}" for each in errors]


@pytest.mark.parametrize(
    ("text", "inner", "place"),
    [
        ('{" echo {{ 1 + }} "}', "1:39: syntax error: unexpected tokEOF", "1:45"),
        ('{" é {{x}} {{ 1 + }}"}', "1:40: syntax error: unexpected tokEOF", "1:47"),
        ('{"{{}}"}', "1:28: syntax error: unexpected tokEOF", "1:33"),
        ('{"{{\n\n1 1 }}"}', "3:4: syntax error: unexpected tokExpr", "3:9"),
        ('{" {{"x"}} "}', "1:34: unterminated interpolation", "1:34"),
        (
            '{"\n\techo\n\tcat {{ [1, }} > {{out}}\n"}',
            "3:12: syntax error: unexpected tokEOF, expecting tokEllipsis or ']'",
            "4:3",
        ),
    ],
)
def test_errors_in_an_interpolation_are_moved_into_the_text_around_it(
    text: str, inner: str, place: str
) -> None:
    outer = f"m.rf:{place}: syntax error: unexpected tokError, expecting tokTemplate"
    assert refusal("module", f"val A = exec() (o file) {text}").split("\n") == [f"m.rf:{inner}", outer]


def test_the_caret_of_an_error_in_an_interpolation_is_under_it() -> None:
    with pytest.raises(SourceError) as caught:
        parse_module(Source("m.rf", 'val A = exec() (o file) {"\n  é {{x}} {{f(]}} "}'))
    assert caught.value.render().split("\n")[1:3] == ['  2 |   é {{x}} {{f(]}} "}', "    |               ^"]


def test_closing_braces_before_opening_ones_are_one_error() -> None:
    text = "val A = exec() (o file) {\" awk '{print}}' {{o}} \"}"
    assert refusal("module", text) == "m.rf:1:41: }} before {{ in a template"


def test_character_literals_are_explained() -> None:
    with pytest.raises(SourceError) as caught:
        parse_module(Source("m.rf", "val A = 'a'"))
    assert "double quotes" in caught.value.render()


@pytest.mark.parametrize(
    "text",
    [
        "val A = 1 'a'",
        "'a'\nval A = 1",
        "val A = [1, 'a']",
        "val A = (1 + 2 'a', 3)",
        "val A = (-1 'a')",
        "val A fn 'a' = 3",
        "func f(a int 'a') = 1",
        "val A = { x := 1; x 'a' }",
    ],
)
def test_character_literals_are_overlooked_where_something_ends(text: str) -> None:
    """As the original does: its parser forgets the literal when it can finish a rule before it."""
    parse_module(Source("m.rf", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val A = (1 'a', 2)", "m.rf:1:15: syntax error: unexpected $end"),
        ("val A = if true 'a' { 1 } else { 2 }", "m.rf:1:20: syntax error: unexpected $end"),
        ("val 'a' = 1", "m.rf:1:8: syntax error: unexpected $end"),
        ("val A fn 'a'", "m.rf:1:13: syntax error: unexpected ';', expecting '='"),
        ("val A = {a 'a': 1}", "m.rf:1:16: syntax error: unexpected ':', expecting '}'"),
    ],
)
def test_character_literals_are_unexpected_elsewhere(text: str, message: str) -> None:
    assert refusal("module", text) == message


N = 10_000
DEEP = {
    "list": ("expr", "[" * N + "1" + "]" * N),
    "unary": ("expr", "-" * N + "1"),
    "chain": ("expr", "+".join(["1"] * N)),
    "deref": ("expr", "a" + ".b" * N),
    "call": ("expr", "f" + "(1)" * N),
    "argument": ("expr", "f(" * N + "1" + ")" * N),
    "struct": ("expr", "{a: " * N + "1" + "}" * N),
    "else if": ("expr", "if a {1} else " * N + "{2}"),
    "if": ("expr", "if a {" * N + "1" + "} else {2}" * N),
    "func": ("expr", "func(x int) => " * N + "1"),
    "block": ("expr", "{ val x = " * N + "1" + "; x}" * N),
    "switch": ("expr", "switch x { case y: " * N + "1" + "}" * N),
    "spread": ("expr", "[1, " + "...a " * N + "]"),
    "map spread": ("expr", "[1: 2, " + "...a " * N + "]"),
    "requires": ("decls", "@requires(cpu) " * N + "val x = 1"),
    "type": ("type", "[" * N + "int" + "]" * N),
    "function type": ("type", "func(int) " * N + "int"),
    "sum type": ("type", "#A(" * N + "int" + ")" * N),
    "type in a declaration": ("decls", "type t " + "[" * N + "int" + "]" * N),
    "pattern": ("pattern", "(" * N + "x" + ")" * N),
    "interpolation": ("expr", 'exec() (o file) {" {{' + "[" * N + "1" + "]" * N + '}} "}'),
}


@pytest.mark.parametrize(("kind", "text"), DEEP.values(), ids=DEEP.keys())
def test_what_is_nested_too_deeply_is_refused_with_its_place(kind: str, text: str) -> None:
    found = refusal(kind, text)
    assert found.endswith(f": nested too deeply: more than {MAX_DEPTH} levels")
    assert found.startswith("m.rf:")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("expr", "(" * N + "1" + ")" * N),
        ("type", "(" * N + "int" + ")" * N),
        ("expr", "[" * 1500 + "1" + "]" * 1500),
        ("expr", "+".join(["1"] * 1500)),
        ("expr", ("f" + "(1)" * 100 + "(") * 200 + "1" + ")" * 200),
        ("expr", "[" + ",".join(["1"] * N) + "]"),
    ],
)
def test_generous_nesting_is_taken(kind: str, text: str) -> None:
    PARSERS[kind](Source("m.rf", text))


def test_an_open_bracket_ten_thousand_deep_is_a_plain_syntax_error() -> None:
    assert refusal("expr", "(" * N) == f"m.rf:1:{N + 1}: syntax error: unexpected tokEOF"


def test_the_collector_is_as_it_was() -> None:
    assert gc.isenabled()
    refusal("expr", "(")
    assert gc.isenabled()
    gc.disable()
    try:
        parse_expr(Source("", "1"))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_tables_are_the_same_every_time(tmp_path: Path) -> None:
    code = (
        "import sys; from reflow.lang.parse import build_tables, write_tables;"
        "write_tables(sys.argv[1], build_tables())"
    )
    made = []
    for seed in ("1", "2"):
        target = tmp_path / seed
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(target)], env=env, check=True)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    assert [each.name for each in tmp_path.iterdir()] != []
    assert len(list(tmp_path.iterdir())) == 2


def test_lark_is_not_imported_when_the_tables_are_there(tmp_path: Path) -> None:
    parse.write_tables(str(tmp_path / "grammar.bin"), parse.build_tables())
    code = (
        "import sys; from reflow.lang import parse; from reflow.lang.source import Source;"
        "parse.TABLES = sys.argv[1]; parse.parse_expr(Source('', '1 + 2'));"
        "print('lark' in sys.modules)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "grammar.bin")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert made.stdout == "False\n"


@pytest.mark.parametrize("content", [None, b"", b"junk", b"stale"])
def test_tables_that_cannot_be_used_are_made_anew(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "grammar.bin"
    good = parse.build_tables()
    if content == b"stale":
        parse.write_tables(str(target), good._replace(grammar="another"))
    elif content is not None:
        target.write_bytes(content)
    monkeypatch.setattr(parse, "TABLES", str(target))
    assert parse.load_tables() == good
    parse.write_tables(str(tmp_path / "good"), good)
    assert target.read_bytes() == (tmp_path / "good").read_bytes()


def test_tables_need_no_place_to_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "TABLES", str(tmp_path / "no" / "such" / "grammar.bin"))
    assert parse.load_tables().starts.keys() == {"module", "defs", "expr", "type", "pattern"}
