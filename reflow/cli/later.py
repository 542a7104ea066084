"""Commands that this version knows but cannot do yet: their flags and usage, and a clear answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, FlagSpec, UsageError
from reflow.cli.names import NameKind, parse_name
from reflow.runtime.config import not_supported

_BATCH_CONFIG: FlagSpec = (
    "batchconfig",
    "string",
    "config.json",
    "file that names the program and the runs file",
)
_EVALUATION: tuple[FlagSpec, ...] = (
    ("assert", "string", "never", "when cached results count: never (checked) or exact"),
    ("eval", "string", "topdown", "evaluation strategy: topdown or bottomup"),
    ("invalidate", "string", "", "regular expression of identifiers whose cached results are not taken"),
    ("nocacheextern", "bool", "false", "no effect: externs are never cached"),
    ("postusechecksum", "bool", "false", "check inputs again after each exec"),
    ("recomputeempty", "bool", "false", "compute cached results that are or contain empty filesets again"),
)
_CONCURRENCY: tuple[FlagSpec, ...] = (
    ("batch", "string", "", "CSV file; each row is a set of parameters"),
    ("getconcurrency", "int", "50", "look-ups at the same time"),
    ("writebackconcurrency", "int", "20", "cache writes at the same time"),
)


def _named(name: str) -> Callable[[App, Arguments], int]:
    def run(app: App, arguments: Arguments) -> int:
        raise not_supported(f"reflow {name}")

    return run


def _batchrun(app: App, arguments: Arguments) -> int:
    raise Fatal("command batchrun has been renamed runbatch")


def _collect(app: App, arguments: Arguments) -> int:
    text = arguments["threshold"]
    is_days = text.endswith("d") and text[:-1].isdigit()
    if not is_days:
        try:
            datetime.strptime(text, "%Y-%m-%d")
        except ValueError:
            raise UsageError(
                f"invalid -threshold {text}: want YYYY-MM-DD or a number of days such as 15d"
            ) from None
    raise not_supported("reflow collect")


def _ec2instances(app: App, arguments: Arguments) -> int:
    if arguments["sort"] not in ("type", "cpu", "mem", "ebs_max", "price"):
        raise UsageError(f"invalid -sort {arguments['sort']}: want type, cpu, mem, ebs_max or price")
    raise not_supported("reflow ec2instances")


def _pred(app: App, arguments: Arguments) -> int:
    if not app.config.provider("predictor"):
        raise Fatal("missing predictor config: predictions need the keys predictor and taskdb")
    raise not_supported("reflow pred")


def _repair(app: App, arguments: Arguments) -> int:
    if not arguments.words and not arguments["batch"]:
        raise UsageError("repair: want a program, or -batch and a program")
    for name in ("getconcurrency", "writebackconcurrency"):
        if arguments[name] <= 0:
            raise UsageError(f"repair: -{name} is {arguments[name]}, want more than 0")
    raise not_supported("reflow repair")


def _shell(app: App, arguments: Arguments) -> int:
    (word,) = arguments.words
    if parse_name(word).kind is not NameKind.EXEC:
        raise Fatal(f"{word}: not an exec URI")
    raise not_supported("reflow shell")


def _command(
    name: str,
    synopsis: str,
    details: str,
    flags: tuple[FlagSpec, ...] = (),
    *,
    words: tuple[int, int | None] = (0, 0),
    run: Callable[[App, Arguments], int] | None = None,
    is_hidden: bool = False,
) -> Command:
    return Command(
        name,
        f"{name} {synopsis}".rstrip(),
        details,
        run or _named(name),
        flags=flags,
        min_words=words[0],
        max_words=words[1],
        is_hidden=is_hidden,
    )


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        _command(
            "batchinfo",
            "",
            "Batchinfo shows each run of a batch in full, from the batch's state.",
            (_BATCH_CONFIG,),
        ),
        _command(
            "batchrun", "", "Batchrun is now called runbatch.", run=_batchrun, words=(0, None), is_hidden=True
        ),
        _command(
            "collect",
            "[-threshold date] [-keep regexp] [-labels labels]",
            """\
Collect removes what the cache has not used since a date: entries of the index, and objects that no
remaining entry needs. It only tells what it would remove, unless -dry-run=false is given.

A filter (-keep, -labels) is a list of regular expressions that are searched in an entry's labels: a blank
means or, a comma and, a leading ! not.""",
            (
                ("dry-run", "bool", "true", "only tell what would be removed"),
                ("keep", "string", "", "filter of entries that stay whatever their age"),
                ("labels", "string", "", "filter of entries that go whatever their age"),
                (
                    "migrate-fs-max-attempts",
                    "int",
                    "5000",
                    "filesets of the old format to upgrade: 0 none, -1 all",
                ),
                ("rate", "int", "300", "writes to the index per second, at most"),
                ("threshold", "string", "YYYY-MM-DD", "a date, or a number of days such as 15d"),
            ),
            run=_collect,
        ),
        _command(
            "ec2instances",
            "",
            "Ec2instances lists the EC2 instance types that Reflow can use, with what they offer and cost.",
            (
                ("filtertypes", "string", "", "only these types, separated by commas"),
                ("maxcpu", "int", "1000", "at most this many CPUs"),
                ("maxmem", "int", "10000", "at most this much memory, in GiB"),
                ("mincpu", "int", "0", "at least this many CPUs"),
                ("minmem", "int", "0", "at least this much memory, in GiB"),
                ("minprob", "int", "4", "interruption class, 0 (below 5 %) to 4 (any)"),
                ("region", "string", "", "AWS region; by default that of the session"),
                ("sort", "string", "type", "order by: type, cpu, mem, ebs_max or price"),
                ("spotscores", "bool", "false", "ask AWS for spot placement scores"),
            ),
            run=_ec2instances,
        ),
        _command(
            "ec2verify",
            "",
            "Ec2verify launches instances of each type to find out what they really offer.",
            (
                ("limit", "int", "10", "instances at the same time"),
                ("max", "int", "-1", "at most this many types; -1: all"),
                ("package", "string", "", "where to write what was found"),
                ("probe", "bool", "false", "launch instances; otherwise only tell what would be done"),
                ("retry", "bool", "false", "also try types that failed before"),
            ),
        ),
        _command(
            "genbatch",
            "[-o module.rf]",
            "Genbatch writes a module that does all runs of a batch, so that they can be run as one program.",
            (_BATCH_CONFIG, ("o", "string", "", "file to write; by default stdout")),
        ),
        _command("http", "url", "Http fetches a URL with the configured client certificate.", words=(1, 1)),
        _command(
            "kill",
            "allocs...",
            "Kill frees allocs of a cluster, and so ends what runs there.",
            words=(1, None),
        ),
        _command(
            "list",
            "[-a] [[-n] alloc]",
            "List shows what a cluster offers, its allocs, and the execs of an alloc.",
            (
                ("a", "bool", "false", "show everything: offers, allocs and execs"),
                ("n", "bool", "false", "show names only"),
            ),
            words=(0, 1),
        ),
        _command(
            "listbatch", "", "Listbatch shows the state of each run of a batch in one line.", (_BATCH_CONFIG,)
        ),
        _command(
            "pred",
            "names...",
            "Pred predicts memory or duration of execs from earlier runs.",
            (
                ("maxinspect", "int", "0", "look at this many earlier execs; 0: as configured"),
                ("name", "string", "", "what to predict: mem or duration"),
            ),
            words=(1, None),
            run=_pred,
        ),
        _command(
            "repair",
            "-batch samples.csv path | repair path [args]",
            "Repair evaluates a program with what is cached, and writes cache entries that are missing.",
            _CONCURRENCY,
            words=(0, None),
            run=_repair,
        ),
        _command(
            "rmcache", "", "Rmcache removes the cache entries whose keys it reads from stdin, one a line."
        ),
        _command(
            "runbatch",
            "[-parallelism=10] [-retry] [-reset] [flags]",
            """\
Runbatch does all runs of a batch. A file (config.json) names the program and a CSV file with one row per
run: its id, then a value for each parameter that the header names.

Runs that are done are not done again. With -retry those that failed are; with -reset all are.""",
            (
                *_EVALUATION,
                _BATCH_CONFIG,
                ("ids", "string", "", "only the runs with these ids, separated by commas"),
                ("parallelism", "int", "50", "runs at the same time"),
                ("reset", "bool", "false", "forget all recorded state first"),
                ("retry", "bool", "false", "do runs that failed again"),
            ),
            words=(0, None),
        ),
        _command(
            "serve",
            "[-ec2cluster]",
            "Serve runs the worker process that a cluster's machines run.",
            (
                ("addr", "string", ":9000", "address to listen at"),
                ("dir", "string", "/mnt/data/reflow", "where state and data are"),
                ("ec2cluster", "bool", "false", "this is a machine of an EC2 cluster"),
                ("httpdebug", "bool", "false", "log HTTP requests"),
                ("insecure", "bool", "false", "plain HTTP, without certificates"),
                ("prefix", "string", "", "prefix of paths of this machine's file system"),
            ),
        ),
        _command(
            "setup-dynamodb-assoc",
            "<tablename>",
            "Setup-dynamodb-assoc makes a DynamoDB table for the cache's index, and configures it.",
            words=(1, 1),
        ),
        _command("setup-ec2", "", "Setup-ec2 prepares an AWS account for a cluster of EC2 machines."),
        _command(
            "setup-s3-repository",
            "<s3bucket>",
            "Setup-s3-repository makes an S3 bucket for objects, and configures it.",
            words=(1, 1),
        ),
        _command(
            "setup-taskdb",
            "<tablename> <s3bucket>",
            "Setup-taskdb makes a DynamoDB table and an S3 bucket for the record of runs.",
            words=(2, 2),
        ),
        _command("shell", "exec", "Shell opens a shell in a running exec.", words=(1, 1), run=_shell),
        _command(
            "sync",
            "[-sizeonly] [-index n] fileset path",
            "Sync copies the files of a cached fileset below a path; files that are the same are left alone.",
            (
                ("index", "int", "0", "which member, when the fileset is a list"),
                ("sizeonly", "bool", "false", "files of equal size count as the same"),
            ),
            words=(2, 2),
        ),
        _command("upgrade", "", "Upgrade brings configured cloud resources to the form this version wants."),
    )
}
