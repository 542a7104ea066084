"""Evaluation of expressions: values, errors, what is awaited and what stays delayed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.flow.digest import digest
from reflow.flow.node import Coerce, Flow, Intern, K, Requires
from reflow.lang import digest_expr, syntax
from reflow.lang.diagnostic import EvalError
from reflow.lang.evaluation import EVALUATORS
from tests.expressions import TracingSession, evaluated, settled


def _expressions() -> set[type]:
    return {
        each
        for each in vars(syntax).values()
        if isinstance(each, type) and issubclass(each, syntax.Expr) and each is not syntax.Expr
    }


def test_every_expression_can_be_evaluated_and_digested() -> None:
    assert set(EVALUATORS) == _expressions()
    assert set(digest_expr._WRITERS) == _expressions() - {syntax.Ascribe}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[7 / -2, -7 / 2, -7 % 3, 7 % -3, 1 << -1, -9 >> 1]", "[-3, -4, 2, 1, 2, -5]"),
        ("(0.1 + 0.2 == 0.3, 1.0/3.0*3.0 == 1.0, 1.0/0.0, -0.0)", "(true, true, +Inf, -0)"),
        ('"a" + "b" < "ac"', "true"),
        ('len("é\\xff")', "3"),
        ("[1] + [2]", "[1, 2]"),
        ('["a": 1, "b": 2]["b"]', "2"),
        ('(["a": 1] + ["a": 2])["a"]', "2"),
        ("{x := 1; y := x + 1; {x := 10; x + y}}", "12"),
        ("{f := {x := 1; func(y int) => x + y}; x := 5; f(x)}", "6"),
        ("{val (a, [b, ...c]) = (1, [2, 3, 4]); (a, b, c)}", "(1, 2, [3, 4])"),
        ("{val {a: x, b: _} = {a: 1, b: 2}; x}", "1"),
        ("{val #A(x) = #A(3); x}", "3"),
        ("if 1 < 2 { 1 } else { 2 }", "1"),
        ("[x * y | x <- [1, 2, 3], if x > 1, y <- [10, 100]]", "[20, 200, 30, 300]"),
        ("[x | x <- [1, 2], if false]", "[]"),
        ("[k | (k, _) <- [1: 2]]", "[1]"),
        ("switch [1, 2] { case [a]: a case [a, ...b]: a + len(b) case _: 0 }", "2"),
        ("int(2.9) + int(-2.9)", "0"),
        ("float(3) / 2.0", "1.5"),
        ('zip([1, 2], ["a", "b"])', '[(1, "a"), (2, "b")]'),
        ('unzip([(1, "a"), (2, "b")])', '([1, 2], ["a", "b"])'),
        ("flatten([[1], [2, 3], []])", "[1, 2, 3]"),
        ("map([(1, 2), (1, 3)])", "[1: 3]"),
        ("list([1: 2])", "[(1, 2)]"),
        ("range(-1, 2)", "[-1, 0, 1]"),
        ("range(1, 1)", "[]"),
        ("reduce(func(a, b int) => a - b, [10, 1, 2])", "7"),
        ("fold(func(a, b int) => a - b, [1, 2], 10)", "7"),
        ("fold(func(a, b int) => a - b, [], 10)", "10"),
        ("{a: 1, b: 2}.b", "2"),
        ("1 ~> 2", "2"),
        ('make("$/path").Base("a/b")', '"b"'),
    ],
)
@pytest.mark.parametrize("is_delayed", [False, True])
def test_expressions_have_their_values_also_when_they_are_delayed(
    text: str, value: str, is_delayed: bool
) -> None:
    assert settled(f"delay({text})" if is_delayed else text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "<input>:1:2: division by zero"),
        ("1 % (1 - 1)", "<input>:1:2: division by zero"),
        ("0.0 / 0.0", "<input>:1:4: zero cannot be divided by zero, nor infinity by infinity"),
        ("[1, 2][2]", "<input>:1:2: index 2 out of bounds for list of size 2"),
        ("[1, 2][-1]", "<input>:1:2: index -1 out of bounds for list of size 2"),
        ('["a": 1]["b"]', '<input>:1:2: key "b" not found'),
        (
            "{val [x, y] = [1]; x + y}",
            "<input>:1:7: cannot match list pattern of size 2 with a list of size 1",
        ),
        ("{val [x, ...y] = []; (x, y)}", "cannot match list pattern of size 1 with a list of size 0"),
        ("{val [_] = [1, 2]; 1}", "cannot match list pattern of size 1 with a list of size 2"),
        (
            "{s := if true { #A } else { #B(1) }; val #B(x) = s; x}",
            "cannot match tag #B with a variant with tag #A",
        ),
        ("zip([1], [1, 2])", "<input>:1:4: list sizes do not match: 1 vs 2"),
        ("reduce(func(a, b int) => a + b, [])", "<input>:1:7: cannot reduce empty list"),
        ("range(2, 1)", "invalid range"),
        ("range(0, 1 << 40)", "range of 1099511627776 numbers is too long"),
        ('panic("no")', "<input>:1:6: panic: no"),
        ("1 << 10000000000", "integer of 10000000001 bits is too large"),
    ],
)
def test_errors_have_the_originals_text(text: str, message: str) -> None:
    with pytest.raises(EvalError) as caught:
        settled(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / delay(0)", "<input>:1:2: division by zero"),
        ("delay([1, 2])[2]", "<input>:1:6: index 2 out of bounds for list of size 2"),
        (
            "{val [x, y] = delay([1]); x + y}",
            "<input>:1:7: cannot match list pattern of size 2 with a list of size 1",
        ),
        ('panic(delay("no"))', "<input>:1:6: panic: no"),
    ],
)
def test_errors_of_delayed_values_are_those_of_their_nodes(text: str, message: str) -> None:
    assert isinstance(evaluated(text), K)
    with pytest.raises(EvalError) as caught:
        settled(text)
    assert str(caught.value) == message


def test_error_is_a_module_error() -> None:
    with pytest.raises(ReflowError) as caught:
        evaluated('error(3, "sorry")')
    assert caught.value.kind is Kind.MODULE
    assert str(caught.value) == "module error code 3: module: <input>:1:6: sorry"


@pytest.mark.parametrize(
    "text",
    [
        "!(false && 1 / 0 == 1)",
        "true || 1 / 0 == 1",
        'if true { true } else { panic("x") }',
        "switch 1 { case x: x == 1 }",
        "{f := func(x int) => x == 1 / 0; true}",
    ],
)
def test_what_is_not_needed_is_not_evaluated(text: str) -> None:
    assert settled(text) == "true"


@pytest.mark.parametrize("text", ["{x := 1 / 0; 1}", "delay(1) ~> 1 / 0", "[delay(1), 1 / 0]"])
def test_what_can_be_computed_is_computed_now(text: str) -> None:
    with pytest.raises(EvalError, match="division by zero"):
        evaluated(text)


def test_containers_keep_delayed_members_in_place() -> None:
    value = evaluated("{a: (delay(1), [delay(2)], #A(delay(3))), b: [1: delay(4)]}")
    first, (second,), third = value["a"]
    ((_, fourth),) = value["b"].items()
    assert all(isinstance(each, K) for each in (first, second, third.element, fourth))


def test_a_delayed_key_delays_the_map() -> None:
    assert isinstance(evaluated("[delay(1): 2]"), K)


def test_calls_do_not_await_arguments() -> None:
    value = evaluated("(func(x, y int) => (x, y))(delay(1), 2)")
    assert isinstance(value, tuple)
    assert isinstance(value[0], K)


def test_leaves_of_a_switch_are_awaited_and_those_of_a_binding_are_not() -> None:
    assert isinstance(evaluated("switch (1, delay([1])) { case (x, _): x }"), K)
    assert evaluated("{val (x, _) = (1, delay([1])); x}") == 1


def test_a_filter_on_delayed_data_delays_the_list() -> None:
    assert isinstance(evaluated("[x | x <- [1, delay(2)], if x > 1]"), K)
    assert settled("[x | x <- [1, delay(2)], if x > 1]") == "[2]"


def test_nodes_that_wait_depend_on_the_delayed_parts_only() -> None:
    value = evaluated("(1 + 2) + delay(3)")
    assert isinstance(value, K)
    assert [type(dep) for dep in value.deps] == [K]
    assert value.deps[0].deps == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{x := 1; delay(x)}", "df14f3294bd1c14c9fd6423b6078f4699ae85d44bdf5c44bf838cbc6e9c99db1"),
        ("[y*y | y <- delay([1,2,3])]", "337a09abbd076b3c5744b6fc7eec05f3035a79431503b452153aced03a741d57"),
        ("[x*x | x <- delay([1,2,3])]", "337a09abbd076b3c5744b6fc7eec05f3035a79431503b452153aced03a741d57"),
        ("[y*y | y <- delay([4,5,6])]", "1a62e182832898d8d2e9d096be2af02302aa186732c5dfdb8f797f4ce9469462"),
        (
            'delay(["y": 4, "z": 100, "x": 1])',
            "f8a6305d5c748c774a08c8db12d02a322e64562f9c11b83a0ca59b5642fcf631",
        ),
    ],
)
def test_names_do_not_enter_digests(text: str, expected: str) -> None:
    assert digest(evaluated(text)).hex() == expected


def test_a_continuation_may_run_again() -> None:
    value = evaluated("[delay(1), 2][0] + 1")
    assert isinstance(value, K)
    assert [value.fn([10]).value, value.fn([20]).value] == [11, 21]  # type: ignore[attr-defined]


def test_delayed_values_are_labelled_by_the_first_name() -> None:
    value = evaluated("{x := delay(1); y := x; y + 1}", ident="m")
    assert [value.ident, value.deps[0].ident, value.deps[0].deps[0].ident] == ["m", "m", "m.y"]


def test_closures_label_with_the_name_at_which_they_were_made() -> None:
    value = evaluated("{g := func(x int) => delay(x); w := (1, g(2)); w}", ident="m")
    assert value[1].ident == "m.g"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{x := trace(1 + 1); x}", ["<input>:1:12(x): 2"]),
        ("trace([delay(1)])", ["<input>:1:6: [1]"]),
        ("{trace := 1; trace}", []),
    ],
)
def test_trace_tells_place_name_and_value(text: str, lines: list[str]) -> None:
    session = TracingSession()
    settled(text, session)
    assert session.lines == lines


# ------------------------------------------------------------------------------------------ equality


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2] == [1, 2]", "true"),
        ("[1, 2] != [2, 1]", "true"),
        ("[1] == [1, 2]", "false"),
        ("[[1], [2]] == [[1], [delay(3)]]", "false"),
        ("(1, [delay(2)]) == (1, [2])", "true"),
        ("{a: 1, b: delay(2)} != {a: 1, b: 2}", "false"),
        ('["a": 1, "b": 2] == ["b": delay(2), "a": 1]', "true"),
        ('["a": 1] == ["b": 1]', "false"),
        ("delay(#A(1)) == #A(delay(1))", "true"),
        ('file("s3://b/k") == file("s3://b/k")', "true"),
        ('file("s3://b/k") != file("s3://b/l")', "true"),
    ],
)
def test_equality_awaits_what_it_needs(text: str, value: str) -> None:
    assert settled(text) == value


def test_equality_stops_at_the_first_difference() -> None:
    assert evaluated("[1, delay(2)] == [2, delay(3)]") is False
    assert evaluated("(1, [delay(2)]) == (2, [2])") is False


def _mixed(text: str) -> Any:
    node = evaluated(text)
    assert isinstance(node, K)
    return node.fn([File(source="s3://b/ref", size=1, etag="x"), File(Digest.of(b"x"), 1)])


@pytest.mark.parametrize("op", ["==", "!="])
def test_a_reference_is_read_before_it_is_compared_with_a_file(op: str) -> None:
    following = _mixed(f'file("s3://b/k") {op} file("s3://b/l")')
    assert isinstance(following, K)
    (dep,) = following.deps
    assert isinstance(dep, Coerce)
    intern = dep.deps[0]
    assert isinstance(intern, Intern)
    assert (intern.url, intern.must_intern) == ("s3://b/ref", True)


def test_a_reference_inside_a_container_is_not_compared_with_a_file() -> None:
    node = evaluated('[file("s3://b/k")] == [file("s3://b/l")]')
    with pytest.raises(EvalError, match="cannot compare a file with one that was not read yet"):
        node.fn([File(source="s3://b/ref"), File(Digest.of(b"x"), 1)])


# -------------------------------------------------------------------------------------- depth and size


def _depth(flow: Flow) -> int:
    count = 0
    while flow.deps:
        flow = flow.deps[0]
        count += 1
    return count


def test_a_long_chain_of_delayed_values_is_built_and_digested_without_recursion() -> None:
    size = 5 * sys.getrecursionlimit()
    value = evaluated(f"fold(func(a, b int) => a + b, [delay(x) | x <- range(0, {size})], 0)")
    assert _depth(value) == size
    assert len(digest(value)) == 32


@pytest.mark.parametrize(
    "text",
    [
        "{x0 := delay(1); " + "".join(f"x{i} := x{i - 1} + 1; " for i in range(1, 1500)) + "x1499}",
        "{c := delay(true); x0 := delay(1); "
        + "".join(f"x{i} := if c {{ x{i - 1} }} else {{ 1 }}; " for i in range(1, 1500))
        + "x1499}",
        "{func f0(x int) = x; "
        + "".join(f"func f{i}(x int) = f{i - 1}(x); " for i in range(1, 1500))
        + "delay(f1499)}",
    ],
    ids=["sums", "branches", "functions"],
)
def test_a_long_block_is_digested_without_deep_recursion(text: str) -> None:
    value = evaluated(text)
    assert isinstance(value, K)
    assert len(digest(value)) == 32


def test_lists_are_enumerated_in_loops() -> None:
    value = evaluated("{f := func(x int) => x * 2; [f(x) | x <- range(0, 20000), if x % 2 == 0]}")
    assert (len(value), value[-1]) == (10000, 39996)


# ------------------------------------------------------------------------------------- requirements


def test_requirements_are_put_on_delayed_values_only() -> None:
    value = evaluated("{@requires(cpu := 2, mem := GiB, wide := true) x := delay(1); x}")
    node = value.deps[0]
    assert isinstance(node, Requires)
    assert dict(node.minimum) == {"mem": 2.0**30, "cpu": 2.0, "disk": 0.0}
    assert node.width == 1
    assert evaluated("{@requires(cpu := 2) x := 1; x}") == 1


def test_wide_requirements_are_warned_of() -> None:
    session = TracingSession()
    evaluated("{@requires(wide := true) x := 1; x}", session)
    (line,) = session.lines
    assert line.startswith("WARNING: setting `wide := true` has no real effect: <input>:1:")
