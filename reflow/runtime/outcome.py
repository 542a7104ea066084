"""How a run ended, and the exit status that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, is_restartable, kind_of
from reflow.eval import EvalStats
from reflow.repository.inputs import VERIFY
from reflow.runtime.report import Failure

EXIT_FAILED, EXIT_RESTARTABLE, EXIT_EVAL = 1, 10, 11


class RunOutcome:
    """How a run ended. ``value`` is the result, ``text`` what is printed of it, ``failures`` what failed."""

    def __init__(self, id: Digest) -> None:
        self.id = id
        self.text = ""
        self.value: Any = None
        self.error: ReflowError | None = None
        self.stats = EvalStats()
        self.failures: Sequence[Failure] = ()


def exit_status(error: BaseException | None) -> int:
    """The exit status for the error of a run."""
    if error is None:
        return 0
    if kind_of(error) is Kind.EVAL:
        return EXIT_EVAL
    return EXIT_RESTARTABLE if is_restartable(error) else EXIT_FAILED


def as_run_error(error: BaseException) -> ReflowError:
    """The error that an evaluation is recorded with: what has no kind of its own is an evaluation error."""
    if isinstance(error, ReflowError) and kind_of(error) is not Kind.OTHER:
        return error
    return ReflowError(Kind.EVAL, cause=error)


def as_set_up_error(error: Exception) -> ReflowError:
    """The error that a run is recorded with when something around the evaluation failed."""
    if isinstance(error, ReflowError):
        return error
    return ReflowError(Kind.EVAL if isinstance(error, ProgramError) else Kind.INVALID, cause=error)


_LOSSES = {Kind.NOT_EXIST: "inputs.locate", Kind.INTEGRITY: VERIFY}


def is_lost_object(error: BaseException | None) -> bool:
    """Tell whether an object went away, or turned out to be corrupt, after a result that has it was taken.

    Evaluating again is of use then: the result is a miss now.
    """
    operation = None if error is None else _LOSSES.get(kind_of(error))
    if operation is None:
        return False
    # The kind of a chain is that of its top: below, only operations are left.
    while isinstance(error, ReflowError):
        if error.op == operation:
            return True
        error = error.cause if isinstance(error.cause, BaseException) else None
    return False
