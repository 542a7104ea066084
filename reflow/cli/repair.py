"""``reflow repair``: give what is cached the keys that it lacks. Source: tool/repair.go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.lang.program import Program
    from reflow.lang.session import Session
    from reflow.runtime.repair import Repair

_AT_ONCE = 50
"""Programs that are evaluated at the same time."""

_DETAILS = """\
Repair looks up all that a program computes, and gives each result that is cached under some key the keys that
it lacks. Nothing is executed. That is of use when results were cached by an earlier version that had other
keys, or while a registry did not answer (a result then lacks the key with its image's digest).

The program's parameters follow it, as for "reflow run"; or -batch names a CSV file whose header names
parameters, and each of whose rows is a set of them."""


def run(app: App, arguments: Arguments) -> int:
    """Repair what one set of parameters computes, or each of a file."""
    words, batch = arguments.words, arguments["batch"]
    for name in ("getconcurrency", "writebackconcurrency"):
        if arguments[name] <= 0:
            raise UsageError(f"repair: -{name} is {arguments[name]}, want more than 0")
    if not words:
        raise UsageError("repair: want a program, or -batch and a program")
    if batch and len(words) > 1:
        raise UsageError(f"repair: with -batch, parameters come from the file: {' '.join(words[1:])}")
    if not app.config.provider("assoc"):
        raise Fatal("no cache is configured: the key assoc is empty")
    request = RunRequest(words[0], words[1:])
    request.executor = arguments["executor"]
    return app.run_async(_repair(app, request, _rows(batch) if batch else [words[1:]], is_batch=bool(batch)))


def _rows(path: str) -> list[list[str]]:
    """The parameters of each row of a file. Raises Fatal."""
    from reflow.core.gocsv import CsvError, check_width, read_csv

    with open(path, "rb") as stream:
        text = stream.read().decode("utf-8", "surrogateescape")
    try:
        records = list(read_csv(text))
        for record in records:
            check_width(record, len(records[0].fields))
    except CsvError as err:
        raise Fatal(f"{path}: {err}") from err
    if not records:
        raise Fatal(f"{path}: empty batch")
    header = records[0].fields
    return [
        [f"-{name}={cell}" for name, cell in zip(header, record.fields, strict=True)]
        for record in records[1:]
    ]


async def _repair(app: App, request: RunRequest, rows: Sequence[list[str]], *, is_batch: bool) -> int:
    from reflow.cli.run import make_session
    from reflow.cli.running import check_supported
    from reflow.runtime.repair import Repair

    check_supported(app, request)
    session = make_session(app)
    repair = Repair(app.config, app.log, request, lambda: session.local_files)
    programs = _programs(app, request.path, rows, session, is_batch=is_batch)
    try:
        first = next(programs, None)
        if first is not None:
            await repair.open(session.images())
            await repair.repair(first)
            del first
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(_repair_each(repair, programs))
    finally:
        done = await repair.close()
    app.log.info(f"wrote {done.entries} new assoc entries")
    return 0


async def _repair_each(repair: Repair, programs: Iterator[Program]) -> None:
    """Repair one program after the other, until there are no more; others take of the same."""
    for program in programs:
        await repair.repair(program)


def _programs(
    app: App, path: str, rows: Sequence[list[str]], session: Session, *, is_batch: bool
) -> Iterator[Program]:
    """The program made with each row."""
    from reflow.lang.program import load

    for row in rows:
        program = load(path, row, session, make_absolute=True)
        if is_batch:
            app.log.info(f"repair: {' '.join([path, *row])}")
        yield program


COMMAND = Command(
    "repair",
    "repair -batch samples.csv path | repair path [args]",
    _DETAILS,
    run,
    flags=[
        ("batch", "string", "", "CSV file; each row is a set of parameters"),
        ("executor", "string", "", "whose results: those of auto, docker, sandbox or process"),
        ("getconcurrency", "int", "50", "no effect: look-ups are made in batches"),
        ("writebackconcurrency", "int", "20", "no effect: entries are written in batches"),
    ],
    max_words=None,
)
