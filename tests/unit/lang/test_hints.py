from __future__ import annotations

import pytest

from reflow.lang.diagnostic import SourceError
from tests.module_texts import TextOpener

M = 'param size {w, h int}\nparam names = ["a"]\ntype Thing int\nval Area = size.w * size.h\n'


def hints(text: str) -> list[str]:
    with pytest.raises(SourceError) as caught:
        TextOpener({"main.rf": text, "m.rf": M}).load("main.rf")
    return [each.hint for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("val sample = 1\nval A = sampel", "did you mean sample?"),
        ("val Sample = 1\nval A = sample", "did you mean Sample?"),
        ("val A = len", "len is a builtin, it can only be called: len(x)"),
        ("val A = b\nb := 1", "b is declared on line 2: names are known below their declaration only"),
        ("func f(n int) int = f(n)", "f is declared on line 1: names are known below their declaration only"),
        ("type T int\nval A = T", "T is a type, not a value"),
        ("val A = qqq", ""),
        ("type Thing int\nval A Ting = 1", "did you mean Thing?"),
        ('val A strin = "s"', "did you mean string?"),
        ("x := 1\nval A x = 1", "x is a value, not a type"),
        ('m := make("./m.rf", size := {w: 1, h: 1})\nval A m.Thin = 1', "did you mean Thing?"),
        ("val A = {name: 1}.nam", "did you mean name?"),
        ("val A = {name: 1}.zz", "there is name"),
        ('val A = make("./m.rf", size := {w: 1, h: 1}).Aria', "did you mean Area?"),
        ("val {nam} = {name: 1}", "did you mean name?"),
        ("val #Doe = #Done", "did you mean #Done?"),
        ("val #A = #A(1)", "write #A(_)"),
        ("val (a, b) = (1, 2, 3)", "write _ for elements that are not needed"),
    ],
)
def test_names_that_were_meant(text: str, hint: str) -> None:
    assert hints(text)[-1] == hint


def test_what_follows_from_a_broken_declaration_says_so() -> None:
    assert hints("func f(x int) = nope\nval A = f(1)\n") == ["", "the declaration of f has an error itself"]


def test_a_hint_is_given_once() -> None:
    assert hints("val sample = 1\nval A = (sampel, sampel)\n") == ["did you mean sample?", ""]


def test_an_error_told_twice_brings_its_hint_once() -> None:
    assert hints("val A = {\n\tx := len\n\t1\n}\n") == [
        "",
        "len is a builtin, it can only be called: len(x)",
    ]


def test_hints_do_not_take_for_ever_in_a_program_full_of_errors() -> None:
    text = "".join([f"val name{number} = 1\nval A{number} = nam{number}\n" for number in range(400)])
    assert sum(hint != "" for hint in hints(text)) <= 40


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('val A file = "x"', "file(…) makes a file of a path or URL"),
        ('func f(d dir) = d\nval A = f("x")', "dir(…) makes a directory of a path or URL"),
        ('val A = "n" + 1', 'make("$/strings").FromInt(…) makes a string of an int'),
        ("val A = 1.5 + 1", "float(…) makes a float of an int"),
        ("val A int = 1.5", "int(…) makes an int of a float"),
        ("val A [int] = 1", "a list is wanted: write […] around a single element"),
        ("val A int = [1]", "this is a list: take one element, or go through all with [… | x <- list]"),
        ("val A {a, b int} = {a: 1}", "missing field: b"),
        ("val A {a, b, c int} = {a: 1}", "missing fields: b, c"),
        ('val A {a int} = {a: "s"}', "field a is string, want int"),
        ('val A (int, int) = (1, "s")', "element 2 is string, want int"),
        ("val A (int, int) = (1, 2, 3)", "2 elements are wanted, got 3"),
        ("val A [string:int] = [1: 1]", "the keys are int, want string"),
        ("val A #A | #B = #C", "#C is not among the variants that are wanted"),
        ('val A [file] = ["s"]', "file(…) makes a file of a path or URL"),
        ("func f(x int) = x\nval A int = f", "this is a function that has not been called"),
        ("val A func(int) int = 1", "a function is wanted"),
        ("val A = func(x int) int => x", None),
        ("val A = [1] == []", "only values of exactly the same type can be compared"),
        ('val A = ["k": 1][0]', "the keys of this map are string, the index is int"),
        ("val A = (1, 2)[0]", "the elements of a tuple are taken by a pattern: val (a, b) = …"),
        ('val A = dir("d")["f"]', "map(…) makes a map of a directory, which can be indexed by path"),
        ("val A = {a: 1}[0]", "fields are taken by name: e.name"),
        ('val A = [c | c <- "s"]', 'make("$/strings").Split(…, separator) makes a list of a string'),
        ("val A = [c | c <- 3]", "range(from, to) is a list of numbers"),
        ('val A = [1, 2, "s"]', "element 2 is string, element 0 is int"),
        ('val A = if true { 1 } else { "s" }', "one branch is int, the other string"),
        ("func f(a int, b string) = a\nval A = f(1)", "missing: b"),
        ("val A = int(1)", "int is what it is already"),
        ("val A = zip([1])", "write zip(list, list)"),
        ("val A = #lower", "write #Lower"),
        ("val A = switch [1] { case [_]: 1 }", "not matched: []"),
        ("val A = switch 1 { case _: 1 case x: 2 }", "the cases above match all that it would"),
        ("val A = switch 1 { case (_, _): 1 }", "expected tuple, got int"),
    ],
)
def test_types_that_do_not_fit(text: str, hint: str | None) -> None:
    if hint is None:
        hint = "the type after the arguments of func(…) => is that of the whole function: leave it out"
    assert hints(text)[-1] == hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('exec(cpu := 1) (o file) {" {{o}} "}', 'add image := "NAME" to exec(…)'),
        ('exec(image := "i") file {" x "}', "write (out file), and {{out}} where the script names it"),
        ('exec(image := "i") dir {" x "}', "write (out dir), and {{out}} where the script names it"),
        ('exec(image := "i") (o int) {" x "}', "let the script write a file, and read that"),
        ('exec(image := "i", mem := "s") (o file) {" x "}', "got string"),
        ('exec(image := "i", memory := 1) (o file) {" x "}', "did you mean mem?"),
        (
            'exec(image := "i") (o file) {" {{["s"]}} "}',
            'make("$/strings").Join(…, " ") makes one string of them',
        ),
        ('exec(image := "i") (o file) {" {{true}} "}', 'write if … { "true" } else { "false" }'),
        (
            'exec(image := "i") (o file) {" {{(1, 2)}} "}',
            "a tuple has several values: name the one that is wanted",
        ),
        (
            'exec(image := delay("i")) (o file) {" x "}',
            "the image must be known before anything runs: it cannot depend on files or execs",
        ),
    ],
)
def test_execs(text: str, hint: str) -> None:
    assert hints(f"val A = {text}")[-1] == hint


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ("", "write size := … ({w, h int})"),
        (", size := {w: 1, h: 2, d: 3}", "the parameter has no field d"),
        (', size := {w: "s"}', "field w is string, want int"),
        (", siz := 1", "did you mean size?"),
        (", size := 1", ""),
        (", size := {w: 1, h: 1}, names := []", "state the type of what is empty: val empty [string] = []"),
    ],
)
def test_arguments_of_modules(args: str, hint: str) -> None:
    assert hints(f'val A = make("./m.rf"{args})')[-1] == hint


def test_hints_stand_below_the_line_and_do_not_begin_with_a_place() -> None:
    with pytest.raises(SourceError) as caught:
        TextOpener({"main.rf": "val sample = 1\nval A = sampel\n"}).load("main.rf")
    assert caught.value.render().split("\n") == [
        'main.rf:2:15: identifier "sampel" not defined',
        "  2 | val A = sampel",
        "    |         ^^^^^^",
        "  hint: did you mean sample?",
    ]


def test_an_error_in_another_module_is_shown_there_too() -> None:
    texts = {"main.rf": 'm := make("./n.rf")\n', "n.rf": "val sample = 1\nval A = sampel\n"}
    with pytest.raises(SourceError) as caught:
        TextOpener(texts).load("main.rf")
    assert caught.value.render().split("\n") == [
        'main.rf:1:10: failed to open module ./n.rf: n.rf:2:15: identifier "sampel" not defined',
        '  1 | m := make("./n.rf")',
        "    |      ^^^^^^^^^^^^^^",
        "  hint: in n.rf",
        "  2 | val A = sampel",
        "    |         ^^^^^^",
        "  did you mean sample?",
    ]
