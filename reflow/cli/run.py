"""``reflow run``: evaluate a program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, FlagSpec, UsageError
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.lang.program import Program
    from reflow.lang.session import Session

_DETAILS = """\
Run evaluates the value Main of a program: a module (.rf) or a bundle (.rfx). What follows the program are
its parameters, for example

	$ reflow run align.rf -sample=NA12878

and "reflow run align.rf -help" lists them. When Main needs nothing to be run it is printed at once.
Otherwise a run is made: its execs run where -executor says, and what was computed before comes from the
cache. The result is the last thing on stdout; progress and messages are on stderr. -out also copies the
files of the result to a place of your choice. -n executes nothing, and tells what would be executed and
why; "reflow why" tells it of a run that was made.

A run has an id. Its files are in the directory runs of ~/.reflow (or $REFLOW_HOME): ID.runlog has all
messages, ID.json its state, ID.gv the graph that was evaluated (and ID.svg, drawn by Graphviz if it is
installed, of small graphs or with -dotgraph). "reflow info ID", "reflow logs ID" and
"reflow ps -i" look at a run and its execs, while it runs and afterwards.

The first Ctrl-C ends what runs and leaves in good order, a second one at once. The exit status is

	0	when all is well,
	1	when an exec failed, and for every other error,
	2	when the command line is wrong,
	10	when the error may go away by itself (three attempts were made),
	11	when the evaluation of the program failed."""

_EXECUTORS = ("auto", "docker", "sandbox", "process")

_FLAGS: list[FlagSpec] = [
    (
        "assert",
        "string",
        "never",
        "whether inputs of cached results must be as they were: never (checked) or exact",
    ),
    ("backgroundtimeout", "duration", "10m0s", "how long to wait for cache writes at the end"),
    ("dir", "string", "", "older name of -localdir; wins when both are given"),
    (
        "dotgraph",
        "bool",
        "true",
        "write the evaluation graph beside the run's log; when given, also draw it if Graphviz is installed",
    ),
    ("eval", "string", "topdown", "evaluation strategy: topdown or bottomup"),
    (
        "executor",
        "string",
        "",
        "where execs run: auto, docker, sandbox or process (this machine's tools, images ignored)",
    ),
    ("invalidate", "string", "", "regular expression of identifiers whose cached results are not taken"),
    ("json", "bool", "false", "print one JSON object with the outcome as the last line of stdout"),
    ("keep-going", "bool", "false", "after a failure go on with everything that does not depend on it"),
    ("local", "bool", "false", "use this machine, whatever cluster is configured"),
    ("localdir", "string", "", "directory that execs run in; by default local in $REFLOW_HOME"),
    ("n", "bool", "false", "dry run: execute nothing, but tell what would be executed and why"),
    ("nocacheextern", "bool", "false", "no effect: externs are never cached"),
    (
        "out",
        "string",
        "",
        "place the result at this path: a file, or a directory for lists, dirs, structs and so on",
    ),
    ("postusechecksum", "bool", "false", "check the digests of inputs again after each exec"),
    ("pred", "bool", "false", "predict the memory of execs from earlier runs"),
    ("recomputeempty", "bool", "false", "compute cached results that are or contain empty filesets again"),
    ("traceflow", "bool", "false", "log every step of every node"),
]


def run(app: App, arguments: Arguments) -> int:
    """Load the program; print an immediate Main, or make a run."""
    request = make_request(arguments)
    started_s = time.monotonic()
    try:
        return _run(app, request, started_s)
    except (Exception, KeyboardInterrupt) as err:
        if request.wants_json:
            from reflow.cli.outcome import print_failure

            print_failure(app, err, time.monotonic() - started_s)
        raise


def _run(app: App, request: RunRequest, started_s: float) -> int:
    session = make_session(app)
    program = load(app, request, session)
    if program.is_immediate:
        return _show_immediate(app, request, program, started_s)
    if request.is_dry:
        from reflow.cli.dry import dry_run

        return dry_run(app, request, program, lambda: session.local_files, started_s)
    from reflow.cli.running import run_program

    return run_program(app, request, program, lambda: session.local_files, started_s)


def make_session(app: App) -> Session:
    """A session that tells what the program traces, on stderr."""
    from reflow.lang.module_store import default_store
    from reflow.lang.session import Session

    def tell(line: str) -> None:
        app.write_error(line + "\n")

    return Session(note=tell, trace=tell, store=default_store())


def load(app: App, request: RunRequest, session: Session) -> Program:
    """Load the program with its parameters."""
    from reflow.lang.program import load as load_program

    use_universe(app)
    return load_program(request.path, request.args, session, make_absolute=True)


def use_universe(app: App) -> None:
    """Let digests be those of the universe that -universe names."""
    if app.flags["universe"]:
        from reflow.flow.digest import set_universe

        set_universe(app.flags["universe"])


def _show_immediate(app: App, request: RunRequest, program: Program, started_s: float) -> int:
    text = program.text(program.main)
    if request.is_dry:
        request.out = ""
    if not request.out and not request.wants_json:
        app.print(text)
        return 0
    from reflow.cli.outcome import finish_immediate

    return finish_immediate(app, request, program, started_s)


def make_request(arguments: Arguments) -> RunRequest:
    """What the flags ask for. Raises UsageError."""
    request = common_request(arguments, arguments.words[0], arguments.words[1:])
    request.local_dir = arguments["dir"] or arguments["localdir"]
    request.writes_graph = arguments["dotgraph"]
    request.draws_graph = arguments["dotgraph"] and "dotgraph" in arguments.given
    request.traces_flow = arguments["traceflow"]
    request.predicts = arguments["pred"]
    request.background_timeout_s = arguments["backgroundtimeout"]
    request.out = arguments["out"]
    request.wants_json = arguments["json"]
    request.is_dry = arguments["n"]
    return request


def common_request(arguments: Arguments, program: str, words: list[str]) -> RunRequest:
    """What the flags ask for that ``run`` and ``runbatch`` have both. Raises UsageError."""
    if arguments["eval"] not in ("topdown", "bottomup"):
        raise UsageError(f"invalid evaluation strategy {arguments['eval']}: want topdown or bottomup")
    if arguments["executor"] not in ("", *_EXECUTORS):
        raise UsageError(f"invalid -executor {arguments['executor']}: want {', '.join(_EXECUTORS)}")
    request = RunRequest(program, words)
    request.executor = arguments["executor"]
    request.local_dir = arguments["localdir"]
    request.is_local = arguments["local"]
    request.assert_policy = arguments["assert"]
    request.bottom_up = arguments["eval"] == "bottomup"
    request.invalidate = _ident_matcher(arguments["invalidate"])
    request.recompute_empty = arguments["recomputeempty"]
    request.keep_going = arguments["keep-going"]
    request.checks_inputs = arguments["postusechecksum"]
    return request


def _ident_matcher(pattern: str) -> Callable[[str], bool] | None:
    """A search for ``-invalidate``. Raises UsageError."""
    if not pattern:
        return None
    from reflow.core.fileset import path_bytes
    from reflow.lang.diagnostic import EvalError
    from reflow.lang.regex import Regex

    try:
        regex = Regex(path_bytes(pattern))
    except EvalError as err:
        raise UsageError(f"invalid -invalidate: {err}") from err
    return lambda ident: regex.is_match(path_bytes(ident))


COMMAND = Command(
    "run",
    "run [-local] [flags] path [args]",
    _DETAILS,
    run,
    flags=_FLAGS,
    min_words=1,
    max_words=None,
)
