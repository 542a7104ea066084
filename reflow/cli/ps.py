"""``reflow ps``: runs and their tasks, from the record of this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.cli.output import parse_when, tabulate
from reflow.cli.tables import (
    LONG_COLUMNS,
    RUN_COLUMNS,
    TASK_COLUMNS,
    RunEntry,
    columns_text,
    is_live,
    runs_text,
)
from reflow.runtime.config import not_supported

_DETAILS = f"""\
Ps lists runs, and below each its tasks. Without flags these are your tasks that run now; -i adds those
that have ended, and then memory, CPU and disk are those of the whole task.

Runs are listed that were active in the last ten minutes. -since and -until name another time: a duration
before now such as 24h, or a date YYYY-MM-DD (UTC). -u and -a select runs of others.

Columns of a run ("reflow cat ID" prints what an id stands for):
{columns_text(RUN_COLUMNS)}

Columns of a task:
{columns_text((*TASK_COLUMNS, *LONG_COLUMNS))}"""

_DEFAULT_SPAN = timedelta(minutes=10)


def run(app: App, arguments: Arguments) -> int:
    """List runs and tasks."""
    if arguments["u"] and arguments["a"]:
        raise UsageError("-u and -a exclude each other")
    if arguments["exact_cost"] and not arguments["p"]:
        raise Fatal("-exact_cost only works with -p")
    until = _when(arguments, "until")
    since = _when(arguments, "since") or (until or datetime.now(UTC)) - _DEFAULT_SPAN
    if arguments["p"]:
        raise not_supported("ps -p (the machines of a cluster)")
    from reflow.runtime.wiring import has_taskdb

    if not has_taskdb(app.config):
        return 0
    user = None if arguments["a"] else arguments["u"] or app.config.user
    return app.run_async(_list(app, arguments, user, since, until))


def _when(arguments: Arguments, name: str) -> datetime | None:
    text = arguments[name]
    if not text:
        return None
    try:
        return parse_when(text)
    except ValueError as err:
        raise Fatal(f"invalid -{name} {text}: {err}") from err


async def _list(
    app: App, arguments: Arguments, user: str | None, since: datetime, until: datetime | None
) -> int:
    from reflow.runtime.wiring import open_taskdb
    from reflow.taskdb import RunQuery, TaskQuery, in_order

    taskdb = open_taskdb(app.config)
    assert taskdb is not None
    try:
        runs = await taskdb.runs(RunQuery(user=user, since=since))
        entries = []
        for run in sorted(runs, key=lambda each: (each.start, each.id)):
            if until is not None and run.start > until:
                continue
            tasks = await taskdb.tasks(TaskQuery(run_id=run.id))
            if not arguments["i"]:
                tasks = [task for task in tasks if is_live(task)]
            entries.append(RunEntry(run, sorted(tasks, key=in_order)))
    finally:
        await taskdb.close()
    app.write(tabulate(runs_text(entries, is_long=arguments["l"], is_full=False)))
    return 0


COMMAND = Command(
    "ps",
    "ps [-i] [-l] [-a | -u <user>] [-since <time>] [-p] [-p_version <reflow_version>] "
    "[-p_name <cluster_name>] [-exact_cost]",
    _DETAILS,
    run,
    flags=[
        ("a", "bool", "false", "list runs of all users"),
        ("exact_cost", "bool", "false", "with -p: exact costs, from the spot data feed"),
        ("i", "bool", "false", "also list tasks that have ended"),
        ("l", "bool", "false", "more columns"),
        ("p", "bool", "false", "list the machines of a cluster instead"),
        ("p_name", "string", "", "with -p: machines of this cluster; _all_ for any"),
        ("p_version", "string", "", "with -p: machines of this version of Reflow; _all_ for any"),
        ("since", "string", "", "active since: a duration before now, or YYYY-MM-DD; by default 10m"),
        ("u", "string", "", "list runs of this user"),
        ("until", "string", "", "active until: a duration before now, or YYYY-MM-DD; by default now"),
    ],
)
