"""What ``reflow run`` prints at the end: the result, or why there is none; with -json one object."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reflow.cli.app import App
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, kind_of
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.lang.program import Program
    from reflow.runtime.outcome import RunOutcome
    from reflow.runtime.report import Failure

_STDERR_LINES = 20
_STDERR_BYTES = 8 << 10
_MORE_FAILURES = 10


def finish_run(app: App, request: RunRequest, outcome: RunOutcome, wall_s: float) -> int:
    """Print the end of a run; return the exit status."""
    from reflow.runtime.outcome import exit_status

    if request.wants_json:
        error = None if outcome.error is None else error_object(outcome.error, _position(outcome))
        stats = outcome.stats
        print_object(
            app,
            run=outcome.id,
            result=outcome.text if outcome.error is None else None,
            counts=(stats.executed, stats.cached, stats.failed),
            wall_s=wall_s,
            error=error,
        )
    elif outcome.error is None:
        app.print(outcome.text)
    return exit_status(outcome.error)


def finish_immediate(app: App, request: RunRequest, program: Program, started_s: float) -> int:
    """Place and print a value that needed nothing to be run."""
    if request.out:
        from reflow.runtime.placing import place_immediate

        place_immediate(program, request.out)
    if not request.wants_json:
        app.print(program.text(program.main))
        return 0
    wall_s = time.monotonic() - started_s
    print_object(
        app, run=None, result=program.text(program.main), counts=(0, 0, 0), wall_s=wall_s, error=None
    )
    return 0


def print_failure(app: App, error: BaseException, wall_s: float) -> None:
    """Print the object for a program that could not be loaded, or a run that could not begin."""
    position = _program_position(error) if isinstance(error, ProgramError) else None
    row = error_object(error, position)
    print_object(app, run=None, result=None, counts=(0, 0, 0), wall_s=wall_s, error=row)


def print_object(
    app: App,
    *,
    run: Digest | None,
    result: str | None,
    counts: tuple[int, int, int],
    wall_s: float,
    error: dict[str, Any] | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Print the object of ``-json``; ``counts`` are execs that ran, came from the cache, and failed."""
    executed, cached, failed = counts
    row = {
        "run": None if run is None else str(run),
        "result": None if result is None else _clean(result),
        "executed": executed,
        "cached": cached,
        "failed": failed,
        "wall_s": round(wall_s, 3),
        "error": error,
        **more,
    }
    app.print(json.dumps(row))


def error_object(error: BaseException, position: str | None) -> dict[str, Any]:
    """The error as -json prints it; ``kind`` is one of those that errors are stored with."""
    message = error.text(": ") if isinstance(error, ReflowError) else str(error)
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted"
    return {"kind": _kind(error).value, "message": _clean(message), "position": position}


def _kind(error: BaseException) -> Kind:
    if isinstance(error, ReflowError):
        return kind_of(error)
    if isinstance(error, ProgramError):
        return Kind.EVAL
    if isinstance(error, KeyboardInterrupt):
        return Kind.CANCELED
    return Kind.OTHER if isinstance(error, OSError) else Kind.INVALID


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def failure_text(outcome: RunOutcome) -> str:
    """The error; for an exec also its command, the end of what it said, and how to see all of it."""
    error = outcome.error
    assert error is not None
    cause = _program_error(error)
    lines = [rendered(error)]
    failures = _own_failures(outcome)
    if cause is None and failures:
        lines += _exec_lines(failures[0])
        lines += _other_lines(failures[1:])
    return "\n".join(lines)


def rendered(error: BaseException) -> str:
    """The chain of errors; the caret lines of the program's own error follow it."""
    text, cause = str(error), _program_error(error)
    render = getattr(cause, "render", None)
    if render is None:
        return text
    headline, rendered = str(cause), render()
    return text.replace(headline, rendered, 1) if headline in text else f"{text}\n{rendered}"


def _program_error(error: BaseException | None) -> ProgramError | None:
    """The error of the program that is at the bottom of a chain."""
    while error is not None:
        if isinstance(error, ProgramError):
            return error
        cause = getattr(error, "cause", None)
        error = cause if isinstance(cause, BaseException) else None
    return None


def _exec_lines(failure: Failure) -> list[str]:
    from reflow.eval.tasklines import dedent, shown_command
    from reflow.flow.node import Exec
    from reflow.lang.diagnostic import caret_lines
    from reflow.lang.source import Pos
    from reflow.runtime.report import output_tail

    flow = failure.flow
    lines = [f"  in {flow.ident or flow.op}, at {flow.pos}"]
    if isinstance(flow.pos, Pos):
        lines += caret_lines(flow.pos)
    if isinstance(flow, Exec):
        lines += ["  command:", *[f"      {line}" for line in dedent(shown_command(flow).split("\n"))]]
        said = output_tail(failure.stderr, _STDERR_BYTES)
        if said:
            lines += ["  end of stderr:", *[f"      {line}" for line in said[-_STDERR_LINES:]]]
        if failure.stderr:  # it has run
            lines.append(f"  all of it: reflow logs {failure.task_id.short}  (-stdout: the other stream)")
    return lines


def _other_lines(failures: list[Failure]) -> list[str]:
    lines = [
        f"  also failed: {each.flow.ident or each.flow.op} (reflow logs {each.task_id.short})"
        for each in failures[:_MORE_FAILURES]
    ]
    if len(failures) > _MORE_FAILURES:
        lines.append(f"  and {len(failures) - _MORE_FAILURES} more")
    return lines


def _position(outcome: RunOutcome) -> str | None:
    """Where in the program the error of a run is."""
    cause = _program_error(outcome.error)
    if cause is not None:
        return _program_position(cause)
    failures = _own_failures(outcome)
    return str(failures[0].flow.pos) or None if failures else None


def _own_failures(outcome: RunOutcome) -> list[Failure]:
    """What failed by itself: not what was ended because something else did."""
    return [each for each in outcome.failures if each.error.kind is not Kind.CANCELED]


def _program_position(error: ProgramError) -> str | None:
    diagnostic = getattr(error, "diagnostic", None)
    if diagnostic is None:
        diagnostics = getattr(error, "diagnostics", ())
        diagnostic = diagnostics[0] if diagnostics else None
    pos = getattr(diagnostic, "pos", None)
    return None if pos is None else str(pos)
