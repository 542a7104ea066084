from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg, OutputArg
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.eval.attempt import build_config, cap_memory, plan_retry
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Extern, Intern, Val
from tests.fakes import an_exec

GIB = 1 << 30
FILE = Fileset.of_file(File(Digest.of(b"x"), 1))


def test_an_exec_is_submitted_with_its_inputs_and_outputs() -> None:
    node = an_exec("main.a", Val(FILE), cmd="sort")
    config = build_config(node, [FILE], None)
    assert config == ExecConfig(
        type="exec",
        ident="main.a",
        image="ubuntu",
        original_image="ubuntu",
        cmd="sort %s %s",
        args=(InputArg(FILE), OutputArg(0)),
        arg_names=("{{in0}}", "{{out}}"),
        resources=Resources(mem=500.0 * (1 << 20), cpu=1.0),
        output_is_dir=(False,),
        output_names=node.output_names,
        position="main.rf:2:1",
    )


def test_a_legacy_exec_has_its_dependencies_as_arguments() -> None:
    node = Exec("image", "cat %s %s", [Val(FILE), Val(FILE)])
    assert build_config(node, [FILE, FILE], None).args == (InputArg(FILE), InputArg(FILE))


def test_interns_and_externs_have_a_url() -> None:
    intern = build_config(Intern("s3://b/k", ident="i", pos="f:1:2"), [], None)
    assert intern == ExecConfig(type="intern", ident="i", url="s3://b/k", position="f:1:2")
    extern = build_config(Extern("s3://b/o", Val(FILE), ident="e"), [FILE], None)
    assert extern == ExecConfig(type="extern", ident="e", url="s3://b/o", args=(InputArg(FILE),))


def test_minimums_leave_the_digest_alone() -> None:
    node = an_exec("a", mem=1.0)
    before = digest(node)
    assert build_config(node, [], None).resources["mem"] == 500 << 20
    assert node.resources["mem"] == 1.0
    assert digest(an_exec("a", mem=1.0)) == before


@pytest.mark.parametrize(("asked", "given"), [(1.0, 1.0), (2.0, 2.0), (2.1, 2.0), (2.2, 2.2), (9.0, 9.0)])
def test_memory_is_cut_only_when_a_little_too_much(asked: float, given: float) -> None:
    capped = cap_memory(Resources(mem=asked * GIB, cpu=1.0), Resources(mem=2.0 * GIB))
    assert capped == Resources(mem=given * GIB, cpu=1.0)


def test_nothing_is_cut_when_the_limit_is_unknown() -> None:
    wanted = Resources(mem=1.0 * GIB)
    assert cap_memory(wanted, Resources()) is wanted


@pytest.mark.parametrize(
    ("kind", "used_gib", "retries", "next_gib"),
    [
        (Kind.OOM, 1.0, 0, 1.5),
        (Kind.OOM, 1.0, 2, 1.5),
        (Kind.OOM, 1.0, 3, None),
        (Kind.OOM, 7.0, 0, 8.0),
        (Kind.OOM, 8.0, 0, None),
        (Kind.TEMPORARY, 1.0, 2, 1.0),
        (Kind.TEMPORARY, 1.0, 3, None),
        (Kind.DOCKER_EXEC, 1.0, 0, None),
        (Kind.UNAVAILABLE, 1.0, 0, None),
    ],
)
def test_what_follows_a_failure(kind: Kind, used_gib: float, retries: int, next_gib: float | None) -> None:
    error = ReflowError(Kind.OTHER, "exec", cause=ReflowError(kind, "inner"))
    retry = plan_retry(error, Resources(mem=used_gib * GIB, cpu=2.0), Resources(mem=8.0 * GIB), retries)
    got = None if retry is None else retry.resources
    assert got == (None if next_gib is None else Resources(mem=next_gib * GIB, cpu=2.0))


def test_memory_never_grows_beyond_800_gib() -> None:
    error = ReflowError(Kind.OOM, "exec")
    retry = plan_retry(error, Resources(mem=700.0 * GIB), Resources(), 0)
    assert retry is not None
    assert retry.resources["mem"] == 800 * GIB


@pytest.mark.parametrize(
    ("kind", "used_gib", "reason", "next_gib"),
    [
        (Kind.DOCKER_EXEC, 1.0, "Predictor", 4.0),
        (Kind.TEMPORARY, 1.0, "Predictor", 4.0),
        (Kind.TEMPORARY, 4.0, "Temporary", 4.0),
        (Kind.OOM, 1.0, "OOM", 4.0),
        (Kind.OOM, 4.0, "OOM", 6.0),
        (Kind.OOM, 6.0, "OOM", 8.0),
    ],
)
def test_what_follows_when_less_was_predicted(
    kind: Kind, used_gib: float, reason: str, next_gib: float
) -> None:
    used, specified = Resources(mem=used_gib * GIB, cpu=2.0), Resources(mem=4.0 * GIB, cpu=2.0)
    retry = plan_retry(ReflowError(kind, "exec"), used, Resources(mem=8.0 * GIB), 0, specified)
    assert retry is not None
    assert (retry.reason, retry.resources) == (reason, Resources(mem=next_gib * GIB, cpu=2.0))


def test_the_switch_from_predicted_memory_is_explained() -> None:
    error = ReflowError(Kind.DOCKER_EXEC, "exec", "a")
    retry = plan_retry(error, Resources(mem=1.0 * GIB), Resources(), 1, Resources(mem=4.0 * GIB))
    assert retry is not None
    assert retry.message.startswith(
        "non-OOM error, switch from predicted (1.0GiB) to default (4.0GiB) memory(2/3) due to error: "
    )


def test_a_failure_with_all_that_was_asked_for_stands() -> None:
    same = Resources(mem=4.0 * GIB)
    assert plan_retry(ReflowError(Kind.DOCKER_EXEC, "exec"), same, Resources(), 0, same) is None
