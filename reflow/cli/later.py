"""Commands that this version knows but cannot do yet: their flags and usage, and a clear answer."""

from __future__ import annotations

from collections.abc import Callable

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, FlagSpec, UsageError
from reflow.runtime.config import not_supported


def _named(name: str) -> Callable[[App, Arguments], int]:
    def run(app: App, arguments: Arguments) -> int:
        raise not_supported(f"reflow {name}")

    return run


def _batchrun(app: App, arguments: Arguments) -> int:
    raise Fatal("command batchrun has been renamed runbatch")


def _ec2instances(app: App, arguments: Arguments) -> int:
    if arguments["sort"] not in ("type", "cpu", "mem", "ebs_max", "price"):
        raise UsageError(f"invalid -sort {arguments['sort']}: want type, cpu, mem, ebs_max or price")
    raise not_supported("reflow ec2instances")


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
            "batchrun", "", "Batchrun is now called runbatch.", run=_batchrun, words=(0, None), is_hidden=True
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
    )
}
