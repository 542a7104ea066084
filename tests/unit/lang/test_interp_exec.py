"""Execs: commands, dependencies, outputs, resources, and when they are built."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.flow.digest import digest
from reflow.flow.node import Coerce, Exec, K, Val
from reflow.lang.diagnostic import EvalError
from reflow.lang.value import Dir
from tests.expressions import TracingSession, evaluated

TEST = File(Digest.of_text("test"), 4)


def _exec(text: str, session: TracingSession | None = None) -> Exec:
    node = evaluated(text, session)
    assert isinstance(node, Coerce)
    (exec_,) = node.deps
    assert isinstance(exec_, Exec)
    return exec_


def _resolved(text: str, *values: Any) -> Exec:
    """The exec of an expression that waits for some values."""
    node = evaluated(text)
    assert isinstance(node, K)
    (exec_,) = node.fn(list(values)).deps
    assert isinstance(exec_, Exec)
    return exec_


def test_scalars_become_text_without_quoting() -> None:
    node = _exec('exec(image := "i") (out file) {" {{"a b%s" }} {{1 - 3}} {{0.25}} 100% > {{out}} "}')
    assert node.cmd == " a b%%s -2 0.25 100%% > %s "
    assert (node.deps, node.image) == ((), "i")


def test_an_exec_is_built_at_once_when_nothing_is_delayed() -> None:
    session = TracingSession()
    _exec('exec(image := "ubuntu") (out file) {" x > {{out}} "}', session)
    assert session.images == ["ubuntu"]
    evaluated('exec(image := "later") (out file) {" {{delay(1)}} > {{out}} "}', session)
    assert session.images == ["ubuntu"]


def test_each_mention_of_an_input_is_a_dependency_and_an_output_keeps_its_number() -> None:
    text = (
        '{f := file("s3://b/k"); '
        'exec(image := "i") (x file, y dir, z file) {" {{y}} {{f}} {{x}} {{f}} {{y}} {{"t" }} "}}'
    )
    node = _resolved(text, TEST, TEST)
    assert node.cmd == " %s %s %s %s %s t "
    assert [repr(ref) for ref in node.argmap or ()] == ["out0", "in0", "out1", "in1", "out0"]
    assert node.arg_names == ("{{y}}", "{{f}}", "{{x}}", "{{f}}", "{{y}}")
    assert (node.output_names, node.output_is_dir) == (("y", "x"), (True, False))


@pytest.mark.parametrize(
    ("argument", "value", "fileset"),
    [
        ('file("s3://b/k")', TEST, Fileset({".": TEST})),
        ('dir("s3://b/k")', Dir({"a": TEST}), Fileset({"a": TEST})),
    ],
)
def test_files_and_dirs_are_dependencies(argument: str, value: Any, fileset: Fileset) -> None:
    node = _resolved(f'exec(image := "i") (o file) {{" {{{{{argument}}}}} > {{{{o}}}} "}}', value)
    (dep,) = node.deps
    assert isinstance(dep, Val)
    assert dep.value == fileset


def test_lists_of_files_are_lists_of_filesets() -> None:
    text = 'exec(image := "i") (o file) {" {{[file("s3://b/k"), file("s3://b/l")]}} > {{o}} "}'
    (dep,) = _resolved(text, [TEST, TEST]).deps
    assert isinstance(dep, Val)
    assert dep.value == Fileset(members=[Fileset({".": TEST})] * 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'exec(image := "ubuntu") (out file) {" cp {{file("s3://blah")}} {{out}} "}',
            "8452af59a381c85ee9f0e46d54f90ace40068b034a69d732967a1eb9cd7ed3b5",
        ),
        (
            'exec(image := "ubuntu") (out file) {" cp {{    file("s3://blah")  }} {{  out}} "}',
            "217db429e085cd6cda825b6ef848491e26d28cc149fb1d522a6efc0f9039b701",
        ),
        (
            'exec(image := "ubuntu") (x file) {" cp {{file("s3://blah")}} {{x}} "}',
            "983af1e08bc0f1f84afa8660440c15361009d6cc1b3f1dc2e2872f5a7a47474a",
        ),
        (
            'exec(image := "ubuntu", mem := 32*GiB) (x file) {" cp {{file("s3://blah")}} {{x}} "}',
            "531ff51daa9804678e04b76e03bfc86d45a3028302574324e17e485144b5718a",
        ),
    ],
)
def test_the_source_text_names_the_waiting_node_and_the_command_the_exec(text: str, expected: str) -> None:
    node = evaluated(text)
    assert digest(node).hex() == expected
    built = node.fn([TEST])
    assert digest(built).hex() == "d8e460ec44666ed75cc4d41a46b961646e9c669266a2698cdb54f0323ebf7be4"


def test_parameters_become_resources() -> None:
    node = _exec(
        'exec(image := "i", mem := 2*GiB, cpu := 1.5, disk := -3, cpufeatures := ["intel_avx"]) (o file) '
        '{" x > {{o}} "}'
    )
    assert dict(node.resources) == {"mem": 2.0**31, "cpu": 1.5, "disk": 3.0, "intel_avx": 1.5}


def test_resources_are_always_there() -> None:
    node = _exec('exec(image := "i") (o file) {" x > {{o}} "}')
    assert dict(node.resources) == {"mem": 0.0, "cpu": 0.0, "disk": 0.0}


def test_an_exec_may_be_marked_as_nondeterministic() -> None:
    assert _exec('exec(image := "i", nondeterministic := true) (o file) {" x > {{o}} "}').is_nondeterministic
    assert not _exec('exec(image := "i") (o file) {" x > {{o}} "}').is_nondeterministic


@pytest.mark.parametrize(
    ("argument", "affected"),
    [
        ('{{file("s3://b/k")}} {{delay("x")}}', True),
        ('{{file("s3://b/k")}}', False),
        ('{{delay("x")}}', False),
        ('{{file("s3://b/k")}} {{"x" }}', False),
    ],
)
def test_a_delayed_text_beside_a_file_is_marked(argument: str, affected: bool) -> None:
    node = evaluated(f'exec(image := "i") (o file) {{" {argument} > {{{{o}}}} "}}')
    assert isinstance(node, K)
    assert node.affected is affected


def test_labels_and_positions_are_those_of_the_expression() -> None:
    node = evaluated('{f := exec(image := "i") (o file) {" x > {{o}} "}; f}', ident="m")
    exec_ = node.deps[0].deps[0]
    assert (exec_.ident, str(exec_.pos)) == ("m.f", "<input>:1:11")


# ------------------------------------------------------------------------------------------- outputs


def _take(text: str, *members: Fileset) -> Any:
    node = evaluated(text)
    assert isinstance(node, Coerce)
    return node.fn(Fileset(members=list(members)))


def test_outputs_come_in_the_order_of_declaration() -> None:
    text = 'exec(image := "i") (a file, b dir, c file, d dir) {" {{b}} {{a}} "}'
    first, second, third, fourth = _take(text, Fileset({"x": TEST}), Fileset({".": TEST}))
    assert first is TEST
    assert second.files == {"x": TEST}
    assert (third.id, third.size, fourth.files) == (None, 0, {})


def test_a_single_output_is_the_bare_value() -> None:
    assert _take('exec(image := "i") (o file) {" > {{o}} "}', Fileset({".": TEST})) is TEST


def test_an_output_that_was_not_created_is_an_error() -> None:
    with pytest.raises(EvalError, match=r"<input>:1:5: output file not created in .*: no file for o$"):
        _take('exec(image := "i") (o file) {" > {{o}} "}', Fileset())


def test_a_result_of_the_wrong_size_is_an_error() -> None:
    with pytest.raises(EvalError, match="<input>:1:5: bad exec result: expected size 1, got 0"):
        _take('exec(image := "i") (o file) {" > {{o}} "}')
