r"""The conformance catalogue (language.md §9.1): what each test of the original's ``syntax`` pins down.

| row | here, or where it was already (``test_`` and the file's name are left out) |
| --- | --- |
| ParseTypeOk, TypeErr, TypeRoundtrip | parse: types_print_as_they_are_written; \
parse_error: what_is_not_of_the_language_is_refused |
| ParseDecls | parse: declarations_have_their_tree, patterns_print_as_they_are_written |
| ParseModule, ModuleListCompr, ModuleDirCompr | parse: a_module_has_keyspace_parameters_and_declarations, \
the_else_branch_is_a_block_around_a_block, expressions_have_their_tree |
| ParseDeclComments, ParseParamComments | lexer: a_declaration_keeps_…, a_parameter_keeps_…; here: comments |
| ParseTemplate | parse: a_template_is_split_at_its_interpolations |
| ParseString | lexer: literals_have_the_value_that_they_spell |
| ParsePat | parse: patterns_print_as_they_are_written; here: patterns_that_are_none |
| ParseSwitch | parse: a_case_with_declarations_is_a_block_without_position |
| Synth | check: types_of_expressions |
| Flow | check: what_is_known_to_be_delayed |
| Const, ConstModule | check: what_is_known_to_be_constant, constness_goes_through_make |
| ImageWarn, UnusedWarn | check: warnings_come_from_inner_scopes_first_…; here: unused_names |
| EvalSimple | interp: expressions_have_their_values_also_when_they_are_delayed |
| Pat, EvalErr | here: what_fails_when_a_module_is_made |
| TypeErr | here: what_the_checker_refuses |
| FileCompare | interp: a_reference_is_read_before_it_is_compared_with_a_file |
| Exec, ExecDelay | interp_exec: an_exec_is_built_at_once_when_nothing_is_delayed, \
parameters_become_resources |
| ExecDifferentImages, Immediate/Delayed…Deps | here: what_an_execs_name_depends_on |
| ExecImages | here: each_call_has_the_image_it_was_given |
| DigestExec, Delay, Compr, Map, Variant | language_vectors: …; here: what_an_execs_name_depends_on |
| force_test | force: structs_lose_the_fields_that_their_type_lacks |
| switch_test | case_space, check_data: switches.rf |
| pat_test | pattern: matchers_are_the_leaves_in_order, paths_are_written_step_by_step |
| module_test | flags: all; here: arguments_of_a_bundle_are_defaults |
| bundle_test | bundle: all; here: arguments_of_a_bundle_are_defaults |
| reqs_test | here: requirements_are_read_off_the_annotation |
| repeat_test | here: equal_execs_are_repeated_once |
| abbrev_test | pretty: expressions_are_shown_in_short |
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reflow.core.errors import ProgramError
from reflow.flow.digest import digest
from reflow.flow.node import Coerce, Exec, Flow, K, Requires
from reflow.lang.bundle import write_bundle
from reflow.lang.diagnostic import SourceError
from reflow.lang.parse import parse_pattern
from reflow.lang.session import Session
from reflow.lang.source import Source
from tests.adapters.sim import evaluated
from tests.expressions import evaluated as value_of
from tests.programs import main_of, opened, write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["[]", "[...]", "[...a, b]", "[a ...b]", "()", "1", '"s"', "{}", "#"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(SourceError):
        parse_pattern(Source("", text))


def test_comments_that_belong_to_a_declaration(here: Path) -> None:
    text = """
// Old.

// New.
val A = 1
// Of the annotation.
@requires(cpu := 1)
// Lost.
val B = delay(2)
val C = 3 // tail
// Lost as well.
val D = 4
// Of the function,
// on two lines.
func E(x int) = x
"""
    write(here, {"m.rf": text})
    module = opened("m.rf")
    docs = {name: module.doc(name) for name in "ABCDE"}
    assert docs == {
        "A": "New.\n",
        "B": "Of the annotation.\n",
        "C": "",
        "D": "",
        "E": "Of the function,\non two lines.\n",
    }


REFUSED = {
    "a pattern of another size": (
        "val (a, b) = (1, 2, 3)",
        "m.rf:1:15: expected tuple of size 3, got 2 ((int, int, int))",
    ),
    "no source of elements": (
        "val s = {a: 1}\nval A = [x | x <- s]",
        "m.rf:2:10: expected list, map, or dir, got {a int}",
    ),
    "an argument": (
        'func F(x, y string) = x\nval A = F("a", file("s3://b/k"))',
        "m.rf:2:10: cannot use type file as type string in argument to F (type func(x, y string) string)",
    ),
    "names of the importing module": (
        'val x = 1\nval m = make("./other.rf")\nval A = m.V + x',
        'm.rf:2:13: failed to open module ./other.rf: other.rf:1:10: identifier "x" not defined',
    ),
    "a delayed requirement": (
        'val n = len(file("s3://b/k"))\n@requires(cpu := n)\nval A = 1',
        "m.rf:3:10: parameter cpu is not immediate",
    ),
    "a delayed image, while the rest may be delayed": (
        'val n = len(file("s3://b/k"))\nval s = delay("i")\n'
        'val A = exec(image := "i", cpu := n) (out file) {" {{out}} "}\n'
        'val B = exec(image := s) (out file) {" {{out}} "}',
        "m.rf:4:13: exec parameter image is not immediate",
    ),
    "a tuple for a string": (
        'val A = switch "a" { case (x, y): x }',
        "m.rf:1:15: pattern (x, y) is incompatible with type string",
    ),
    "values without a case": (
        "val A = switch #A(1) { case #A(_): [1] }\nval B = switch [1] { case [x]: x }",
        "m.rf:2:15: case patterns are not exhaustive",
    ),
    "reduce: another result": (
        "val A = reduce(func(i, j {a int}) => {c: 1}, [{a: 1, b: 2}])",
        "m.rf:1:15: reduce expects first argument of type func({a, b int}, {a, b int}) {a, b int}, "
        "got func(i, j {a int}) {c int}",
    ),
    "reduce: another second argument": (
        "val A = reduce(func(i {a int}, j {c int}) => i, [{a: 1}])",
        "m.rf:1:15: reduce expects first argument of type func({a int}, {a int}) {a int}, "
        "got func(i {a int}, j {c int}) {a int}",
    ),
    "reduce: no function": (
        "val A = reduce(1, [1])",
        "m.rf:1:15: reduce expects a function as its first argument, got int",
    ),
    "reduce: one argument": (
        "val A = reduce(func(i int) => i, [1])",
        "m.rf:1:15: reduce expects first argument of type func(int, int) int, got func(i int) int",
    ),
    "reduce: no list": (
        "val A = reduce(func(i, j int) => i, 1)",
        "m.rf:1:15: reduce expects a list as its second argument, got int",
    ),
    "fold: another result": (
        "val A = fold(func(i, j {a int}) => {c: 1}, [{a: 1, b: 2}], {a: 0})",
        "m.rf:1:13: fold expects first argument of type func({a int}, {a, b int}) {a int}, "
        "got func(i, j {a int}) {c int}",
    ),
    "fold: another first argument": (
        "val A = fold(func(i {c int}, j {a int}) => i, [{a: 1}], {a: 0})",
        "m.rf:1:13: fold expects first argument of type func({a int}, {a int}) {a int}, "
        "got func(i {c int}, j {a int}) {c int}",
    ),
    "fold: no function": (
        "val A = fold(1, [1], 1)",
        "m.rf:1:13: fold expects a function with two arguments as its first argument, got int",
    ),
    "fold: one argument": (
        "val A = fold(func(i int) => i, [1], 1)",
        "m.rf:1:13: fold expects a function with two arguments as its first argument, got func(i int) int",
    ),
    "fold: no list": (
        "val A = fold(func(i, j int) => i, 1, 1)",
        "m.rf:1:13: fold expects a list as its second argument, got int",
    ),
    "fold: the start has fewer fields": (
        "val A = fold(func(i, j {a, b int}) => i, [{a: 1, b: 2}], {a: 1})",
        "m.rf:1:13: fold expects first argument of type func({a int}, {a, b int}) {a int}, "
        "got func(i, j {a, b int}) {a, b int}",
    ),
    "no bool": (
        'val A = exec(image := "i", nondeterministic := 1) (out file) {" {{out}} "}',
        "m.rf:1:13: nondeterministic must be a bool",
    ),
    "error: no code": (
        'val A = error("a", "b")',
        "m.rf:1:14: error expects an int and string, not string and string ",
    ),
    "error: no text": ("val A = error(1, 2)", "m.rf:1:14: error expects an int and string, not int and int "),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_checker_refuses(here: Path, text: str, message: str) -> None:
    write(here, {"m.rf": text + "\n", "other.rf": "val V = x\n"})
    with pytest.raises(SourceError) as caught:
        Session().open("m.rf")
    assert message in str(caught.value).split("\n")


FAILING = {
    "a list of another size": (
        "val [a, b, c] = [1, 2]",
        "m.rf:1:6: cannot match list pattern of size 3 with a list of size 2",
    ),
    "a list of another size, without names": (
        "val [_] = [1, 2]",
        "m.rf:1:6: cannot match list pattern of size 1 with a list of size 2",
    ),
    "panic": ('func f(x int) = panic("so bad")\nval A = f(1)', "m.rf:1:22: panic: so bad"),
    "nothing to reduce": (
        "val none [int] = []\nval A = reduce(func(i, j int) => i, none)",
        "m.rf:2:15: cannot reduce empty list",
    ),
    "nothing to repeat": (
        'val A = make("$/test").ExecRepeatAndCheck(1, 2)',
        "m.rf:1:13 m.A: precondition was not met: no execs to repeat",
    ),
    "an assertion": (
        'test := make("$/test")\nval A = test.All([true, 1 > 2])',
        "m.rf:2:13 failed assertion m.A[1]",
    ),
    "an assertion of another module": (
        'val m = make("./other.rf", n := 2)',
        "other.rf:3:16 failed assertion other.Checked[0]",
    ),
    "an assertion by keys": (
        'test := make("$/test")\nval A = test.AssertMap(["c": 1 > 2, "b": true, "a": 1 > 2])',
        "m.rf:2:13 failed assertion m.A[a, c]",
    ),
}


@pytest.mark.parametrize(("text", "message"), FAILING.values(), ids=FAILING.keys())
def test_what_fails_when_a_module_is_made(here: Path, text: str, message: str) -> None:
    other = 'param n int\ntest := make("$/test")\nChecked := test.All([n == 1])\n'
    write(here, {"m.rf": text + "\n", "other.rf": other})
    module = opened("m.rf")
    with pytest.raises(ProgramError) as caught:
        module.make(Session(), {})
    assert str(caught.value) == message


def test_unused_names_are_told_scope_by_scope(here: Path) -> None:
    text = """
func F(x int) = {
	val (a, b) = (x, 1)
	a
}
val G = [1 | x <- [1, 2]]
unused := { inner := 1; 2 }
val H = switch (1, 2) { case (p, q): p }
"""
    write(here, {"m.rf": text})
    told: list[str] = []
    opened("m.rf", warn=told.append)
    assert told == [
        "m.rf:3:11: warning: b declared and not used",
        "m.rf:6:15: warning: x declared and not used",
        "m.rf:7:18: warning: inner declared and not used",
        "m.rf:8:35: warning: q declared and not used",
        "m.rf:7:7: warning: unused declared and not used",
    ]


EXEC = 'exec(image := "i") (out file) {" cat {{file("s3://b/k")}} {{n}} > {{out}} "}'


def name_of(text: str) -> str:
    value = value_of(text)
    assert isinstance(value, Flow)
    return str(digest(value))


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        (EXEC.replace('"i"', '"j"'), False),
        (EXEC.replace("cat", "cat "), False),
        (EXEC.replace("b/k", "b/l"), False),
        (EXEC.replace('"i"', '"i", mem := GiB'), False),
        (EXEC.replace("{{n}}", "{{n + 1}}"), False),
        ("{k := 3; " + EXEC.replace("{{n}}", "{{k}}") + "}", False),
        ("{n := 3; m := 4; " + EXEC + "}", True),
        ("{n := 4; " + EXEC + "}", False),
    ],
)
def test_what_an_execs_name_depends_on(text: str, is_same: bool) -> None:
    # The waiting node hashes the text as it is written; what is interpolated, by value.
    text = text if text.startswith("{") else "{n := 3; " + text + "}"
    assert (name_of(text) == name_of("{n := 3; " + EXEC + "}")) is is_same


@pytest.mark.parametrize("value", ['len(file("s3://b/k"))', "delay(3)"])
def test_a_delayed_input_is_a_dependency_of_the_waiting_node(value: str) -> None:
    node = value_of("{n := " + value + '; exec(image := "i") (out file) {" {{n}} > {{out}} "}}')
    assert isinstance(node, K)
    assert len(node.deps) == 1
    other = value_of('{n := delay(4); exec(image := "i") (out file) {" {{n}} > {{out}} "}}')
    assert digest(node) != digest(other)


def test_each_call_has_the_image_it_was_given() -> None:
    values = value_of(
        '{f := func(i string) => exec(image := i) (out file) {" {{out}} "}; (f("a"), f("b"), f("a"))}'
    )
    assert all(isinstance(each, Coerce) for each in values)
    first, second, third = [each.deps[0] for each in values]
    assert isinstance(first, Exec)
    assert [each.image for each in (first, second, third)] == ["a", "b", "a"]
    assert digest(values[0]) == digest(values[2]) != digest(values[1])


@pytest.mark.parametrize(
    ("params", "amounts", "width"),
    [
        (
            'mem := 10*GiB, cpu := 4, disk := TiB, cpufeatures := ["intel_avx"], wide := true',
            {"mem": 10 << 30, "cpu": 4, "disk": 1 << 40, "intel_avx": 4},
            1,
        ),
        ("mem := GiB", {"mem": 1 << 30}, 0),
        ("mem := GiB, cpu := 0.2", {"mem": 1 << 30, "cpu": 0.2}, 0),
    ],
)
def test_requirements_are_read_off_the_annotation(
    here: Path, params: str, amounts: dict[str, float], width: int
) -> None:
    write(here, {"m.rf": f'@requires({params})\nval A = file("s3://b/k")\n'})
    (value,) = opened("m.rf").make(Session(), {})["A"].deps
    assert isinstance(value, Requires)
    assert {name: value.minimum.amount(name) for name in amounts} == amounts
    assert value.width == width


def test_equal_execs_are_repeated_once(here: Path) -> None:
    run = 'exec(image := "i") (out file) {" {{out}} "}'
    both = 'exec(image := "i") (out file) {" cat {{a}} {{b}} > {{out}} "}'
    checked = f'make("$/test").ExecRepeatAndCheck({both}, 2)'
    write(here, {"m.rf": f"a := {run}\nb := {run}\nval A = {checked}\n"})
    told: list[str] = []
    value = opened("m.rf").make(Session(note=told.append), {})["A"]
    evaluated(value)
    assert sum("repeated exec result" in line for line in told) == 2


@pytest.mark.parametrize("given", [[], ["-a=x"], ["-a=x", "-b=y"]])
@pytest.mark.parametrize("later", [[], ["-a=u"], ["-b=v"], ["-a=u", "-b=v"]])
def test_arguments_of_a_bundle_are_defaults(here: Path, given: list[str], later: list[str]) -> None:
    write(here, {"m.rf": 'param a = "1"\nparam b = a + "2"\nval Main = a + "," + b\n'})
    write(here, {"use.rf": 'param a = "q"\nval Main = make("./p.rfx", a := a).Main\n'})
    write_bundle(Session(), "p.rfx", "m.rf", given)
    chosen = dict(word[1:].split("=") for word in [*given, *later])
    a = chosen.get("a", "1")
    b = chosen.get("b", a + "2")
    assert main_of("p.rfx", later) == f'"{a},{b}"'
    before = dict(word[1:].split("=") for word in given)
    assert main_of("use.rf") == f'"q,{before.get("b", "q2")}"'
