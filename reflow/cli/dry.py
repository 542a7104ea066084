"""``reflow run -n``: what a run would execute, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reflow.cli.app import App
from reflow.cli.outcome import error_object, print_object, rendered
from reflow.cli.reasontext import headline, reason_lines, summary_lines
from reflow.cli.running import check_supported
from reflow.flow.node import Exec
from reflow.runtime.dryrun import DryOutcome, DryRun
from reflow.runtime.explainread import Entry
from reflow.runtime.outcome import exit_status
from reflow.runtime.reason import Reasons
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

_SHOWN_NODES = 20
_SHOWN_NAMES = 20


def dry_run(
    app: App,
    request: RunRequest,
    program: Program,
    local_files: Callable[[], Sequence[LocalFile]],
    started_s: float,
) -> int:
    """Print what would be executed; return the exit status that the program's error has, if there is one."""
    check_supported(app, request)
    run = DryRun(app.config, app.log, request, program, local_files)
    outcomes: list[DryOutcome] = []

    async def find_out() -> int:
        outcomes.append(await run.run())
        return 0

    status = app.run_async(find_out())
    if not outcomes:
        return status
    (outcome,) = outcomes
    if request.wants_json:
        rows = run.with_reasons(outcome, _rows)
        _print_object(app, outcome, rows, time.monotonic() - started_s)
        return exit_status(outcome.error)
    lines = run.with_reasons(outcome, lambda reasons: _lines(reasons, outcome))
    app.write("".join([f"{line}\n" for line in lines]))
    if outcome.error is not None:
        app.log.error(rendered(outcome.error))
    return exit_status(outcome.error)


def _executed(reasons: Reasons) -> list[Entry]:
    return [entry for entry in reasons.run.entries.values() if entry.verdict.is_executed]


def _lines(reasons: Reasons, outcome: DryOutcome) -> list[str]:
    entries = _executed(reasons)
    found = sum(each.verdict.is_hit for each in reasons.run.entries.values())
    lines = [f"{len(entries)} would be executed, {found} come from the cache"]
    if len(entries) > _SHOWN_NODES:
        lines += summary_lines(reasons, entries, is_full=False)
    else:
        for entry in entries:
            lines += reason_lines(reasons, entry, verb="would be executed")
    if outcome.undecided:
        names = ", ".join(outcome.undecided[:_SHOWN_NAMES])
        more = len(outcome.undecided) - _SHOWN_NAMES
        rest = f", and {more} more" if more > 0 else ""
        lines.append(f"what then follows depends on their results: {names}{rest}")
    if outcome.text is not None:
        lines.append(f"the result: {outcome.text}")
    return lines


def _rows(reasons: Reasons) -> list[dict[str, Any]]:
    rows = []
    for entry in _executed(reasons):
        reason = reasons.reason(entry)
        node = reason.node
        rows.append(
            {
                "ident": node.ident,
                "flow": str(node.flow),
                "position": node.position,
                "reason": headline(reason),
                "changed": [change.title for change in reason.changes],
            }
        )
    return rows


def _print_object(app: App, outcome: DryOutcome, rows: list[dict[str, Any]], wall_s: float) -> None:
    cached = sum(isinstance(each.node, Exec) for each in outcome.decisions.found)
    print_object(
        app,
        run=None,
        result=outcome.text,
        counts=(0, cached, 0),
        wall_s=wall_s,
        error=None if outcome.error is None else error_object(outcome.error, None),
        more={"would_execute": rows, "undecided": list(outcome.undecided)},
    )
