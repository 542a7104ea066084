"""``reflow runbatch``: many runs of one program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, FlagSpec, UsageError
from reflow.cli.outcome import failure_text
from reflow.cli.run import common_request, use_universe
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.runtime.batch import BatchRequest, BatchTally

_DETAILS = """\
Runbatch does all runs of a batch. The configuration file names the program and a CSV file, by paths that
are relative to it:

	{"program": "align.rf", "runs_file": "samples.csv"}

The CSV file has a header and one row per run: first the run's id (any text without a slash), then a value
for each parameter of the program that the header names:

	id,bam,sample
	1,1.bam,a
	2,2.bam,b

What follows the flags are parameters for all runs, and wins over the rows, for example

	$ reflow runbatch -parallelism=8 -- -ref=hg38.fa

All runs are done in this process, -parallelism at a time, and share the machine as the execs of one run
do. One line tells how each ended; everything else is in log.ID beside the configuration file. The exit
status is 1 when a run failed.

What is done is remembered in state.json, and not done again: called a second time, runbatch tells how
finished runs ended, and goes on with those that were interrupted or are new. A run whose row, parameters or
program changed is done again. -retry also does those that failed, -reset all (whatever is in the cache
still counts: nothing is computed twice without need). "reflow listbatch" and "reflow batchinfo" show
the state of all runs."""

BATCH_CONFIG: FlagSpec = (
    "batchconfig",
    "string",
    "config.json",
    "file that names the program and the runs file",
)
_DRAIN_S = 1200.0

_FLAGS: list[FlagSpec] = [
    BATCH_CONFIG,
    ("assert", "string", "never", "when cached results count: never (checked) or exact"),
    ("eval", "string", "topdown", "evaluation strategy: topdown or bottomup"),
    ("executor", "string", "", "where execs run: auto, docker, sandbox or process"),
    ("ids", "string", "", "only the runs with these ids, separated by commas"),
    ("invalidate", "string", "", "regular expression of identifiers whose cached results are not taken"),
    ("keep-going", "bool", "false", "in each run: after a failure do everything that does not depend on it"),
    ("local", "bool", "false", "use this machine, whatever cluster is configured"),
    ("localdir", "string", "", "directory that execs run in; by default local in $REFLOW_HOME"),
    ("nocacheextern", "bool", "false", "no effect: externs are never cached"),
    ("parallelism", "int", "50", "runs at the same time"),
    ("postusechecksum", "bool", "false", "check inputs again after each exec"),
    ("recomputeempty", "bool", "false", "compute cached results that are or contain empty filesets again"),
    ("reset", "bool", "false", "forget all recorded state first: every run is done again"),
    ("retry", "bool", "false", "do runs that failed again"),
]


def run(app: App, arguments: Arguments) -> int:
    """Do the batch; status 1 when a run failed or is left."""
    from reflow.cli.running import check_supported
    from reflow.runtime.batch import BatchRequest

    request = BatchRequest(arguments["batchconfig"], _run_request(arguments))
    if arguments["parallelism"] < 1:
        raise UsageError(f"-parallelism is {arguments['parallelism']}, want at least 1")
    request.parallelism = arguments["parallelism"]
    request.ids = frozenset(id for id in arguments["ids"].split(",") if id)
    request.wants_reset = arguments["reset"]
    request.wants_retry = arguments["retry"]
    check_supported(app, request.run)
    return app.run_async(_run(app, request))


def _run_request(arguments: Arguments) -> RunRequest:
    """What all runs have in common. Raises UsageError."""
    request = common_request(arguments, "", arguments.words)
    request.writes_graph = False
    request.background_timeout_s = _DRAIN_S
    return request


async def _run(app: App, request: BatchRequest) -> int:
    from reflow.cli.running import get_ready
    from reflow.lang.module_store import default_store
    from reflow.runtime.batch import Batch

    use_universe(app)
    display = app.start_display()
    batch = Batch(app.config, app.log, display.status, request, failure_text, default_store())
    app.interrupts.on_second(batch.kill_now)
    app.counters = batch.counters
    try:
        batch.open()
        get_ready()
        tally = await batch.run()
    finally:
        batch.close()
    app.end_display()
    return _conclude(app, tally)


def _conclude(app: App, tally: BatchTally) -> int:
    """Tell how it went; return the exit status."""
    counts = f"{tally.done} done, {tally.failed} failed"
    if tally.left:
        hint = "the same command goes on with them"
        app.log.error(f"batch failed with error canceled: {counts}, {tally.left} left; {hint}")
        return 1
    hint = " (log.ID tells why; -retry does them again)" if tally.failed else ""
    app.log.info(f"batch: {counts}{hint}")
    return 1 if tally.failed else 0


COMMAND = Command(
    "runbatch",
    "runbatch [-parallelism=10] [-retry] [-reset] [flags]",
    _DETAILS,
    run,
    flags=_FLAGS,
    min_words=0,
    max_words=None,
)
