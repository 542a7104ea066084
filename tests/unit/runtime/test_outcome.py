from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.lang.diagnostic import EvalError
from reflow.runtime.config import ConfigError
from reflow.runtime.outcome import as_run_error, as_set_up_error, exit_status, is_lost_object


def exec_error(kind: Kind) -> ReflowError:
    return ReflowError(kind, "exec", "sha256:00", cause="why")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (exec_error(Kind.DOCKER_EXEC), 1),
        (exec_error(Kind.OOM), 1),
        (exec_error(Kind.NOT_EXIST), 1),
        (exec_error(Kind.CANCELED), 1),
        (exec_error(Kind.MODULE), 1),
        (exec_error(Kind.TEMPORARY), 10),
        (exec_error(Kind.NET), 10),
        (exec_error(Kind.TOO_MANY_TRIES), 10),
        (exec_error(Kind.EVAL), 11),
        (as_run_error(EvalError("panic: boom")), 11),
        (as_run_error(ReflowError(Kind.OTHER, cause="x")), 11),
        (as_set_up_error(ConfigError("x")), 1),
        (as_set_up_error(ReflowError(Kind.OTHER, cause="x")), 1),
        (as_set_up_error(EvalError("x")), 11),
    ],
)
def test_the_kind_decides_the_status(error: BaseException | None, status: int) -> None:
    assert exit_status(error) == status


def test_an_error_of_the_program_becomes_an_evaluation_error() -> None:
    assert str(as_run_error(EvalError("panic: boom"))) == "evaluation error: panic: boom"


def test_an_object_that_went_away_is_recognised_wherever_it_is_in_the_chain() -> None:
    lost = ReflowError(Kind.NOT_EXIST, "inputs.locate", Digest.of(b"x"))
    assert is_lost_object(lost)
    assert is_lost_object(ReflowError(Kind.OTHER, "exec", cause=lost))
    assert not is_lost_object(ReflowError(Kind.NOT_EXIST, "manifest", "ubuntu"))
    assert not is_lost_object(ReflowError(Kind.INVALID, "inputs.locate", Digest.of(b"x")))
    assert is_lost_object(ReflowError(Kind.OTHER, "exec", cause=ReflowError(Kind.INTEGRITY, "inputs.verify")))
    assert not is_lost_object(ReflowError(Kind.INTEGRITY, "inputs"))
    assert not is_lost_object(None)
