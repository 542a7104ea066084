"""``reflow info``: what an id stands for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.cli.names import BadNameError, NameKind, parse_name
from reflow.cli.output import DIVIDER, ctime_text, tabulate
from reflow.cli.tables import (
    LONG_COLUMNS,
    RUN_COLUMNS,
    TASK_COLUMNS,
    RunEntry,
    columns_text,
    inspect_of,
    runs_text,
    task_header,
    task_text,
)
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.execconfig import ExecConfig, ExecInspect, InputArg, OutputArg
from reflow.core.fileset import Fileset
from reflow.core.units import format_size
from reflow.runtime.config import not_supported
from reflow.runtime.home import runs_dir
from reflow.runtime.runstate import RunFiles, RunState, find_runs, read_state

if TYPE_CHECKING:
    from reflow.assoc import Assoc
    from reflow.repository import Repository
    from reflow.taskdb import TaskDB

_DETAILS = f"""\
Info tells what an id stands for: a run, a task, a cached result (any of its cache keys, or the id of its
flow), or a file. Ids may be abbreviated to 8 digits; runs, results and files of this machine to fewer. The
name of an exec, ALLOC/ID, is told with its configuration.

Columns of a run ("reflow cat ID" prints what an id stands for):
{columns_text(RUN_COLUMNS)}

Columns of a task:
{columns_text((*TASK_COLUMNS, *LONG_COLUMNS))}"""


def run(app: App, arguments: Arguments) -> int:
    """Tell of each name in turn; stop at the first that stands for nothing."""
    return app.run_async(_tell_all(app, arguments))


async def _tell_all(app: App, arguments: Arguments) -> int:
    for word in arguments.words:
        try:
            name = parse_name(word)
        except BadNameError as err:
            raise Fatal(f"parse name {word}: {err}") from err
        if name.kind is NameKind.EXEC:
            assert name.id is not None
            await _tell_exec(app, word, name.id)
        elif name.kind is NameKind.ID:
            assert name.id is not None
            await _tell_id(app, word, name.id, is_full=arguments["full"])
        elif name.kind is NameKind.ALLOC:
            await _tell_alloc(app, word, name.alloc)
        else:
            raise not_supported(f"info of a host ({word}): there are none without a cluster")
    return 0


async def _tell_alloc(app: App, word: str, alloc: str) -> None:
    from reflow.cli.liveinfo import alloc_text

    text = await alloc_text(app, word, alloc)
    if not text:
        raise Fatal(
            f"alloc {alloc or '/'}: resource does not exist: no live run uses a directory of that name"
        )
    app.write(tabulate(text))


async def _tell_id(app: App, word: str, prefix: DigestPrefix, *, is_full: bool) -> None:
    """Print the first things found: a run's state here, then one of run, task, cached result and file."""
    is_found = False
    for files in find_runs(runs_dir(), prefix):
        if is_found:
            app.write_error(f"{word}: more than one run begins so; this is the first\n")
            break
        app.write(tabulate(_run_block(files) + DIVIDER + "\n"))
        is_found = True
    text = await _run_or_task(app, prefix, is_full=is_full)
    if not text:
        text = await _cached_or_file(app, prefix, is_optional=is_found)
    if not text and not is_found:
        from reflow.cli.liveinfo import alloc_text

        text = await alloc_text(app, word, str(prefix))
    if not text and not is_found:
        raise Fatal(
            f"unable to resolve id {word}: no run, task, cached result or file of this machine begins so"
        )
    app.write(tabulate(text))


def _run_block(files: RunFiles) -> str:
    try:
        state = read_state(files.state)
    except (OSError, ValueError) as err:
        raise Fatal(f"{files.state}: {err}") from err
    return run_block(state) + (f"\tlog:\t{files.log}\n" if os.path.exists(files.log) else "")


def run_block(state: RunState) -> str:
    """What is known of a run from its state, with tabs between cells."""
    lines = [f"{state.id.hex()} (run)"]
    if state.created is not None:
        lines.append(f"\ttime:\t{ctime_text(state.created)}")
    lines.append(f"\tprogram:\t{state.program}")
    lines += _inputs(state)
    lines.append(f"\tphase:\t{state.phase}")
    if state.error is not None:
        lines.append(f"\terror:\t{state.error}")
    if state.result:
        lines.append(f"\tresult:\t{state.result}")
    return "".join([f"{line}\n" for line in lines])


def _inputs(state: RunState) -> list[str]:
    lines = []
    if state.params:
        lines.append("\tparams:")
        lines += [f"\t\t{name}:\t{state.params[name]}" for name in sorted(state.params)]
    if state.args:
        lines.append("\targs:")
        lines += [f"\t\t{argument}" for argument in state.args]
    return lines


@asynccontextmanager
async def _taskdb(app: App) -> AsyncIterator[TaskDB | None]:
    from reflow.runtime.wiring import has_taskdb, open_taskdb

    taskdb = open_taskdb(app.config) if has_taskdb(app.config) else None
    try:
        yield taskdb
    finally:
        if taskdb is not None:
            await taskdb.close()


async def _run_or_task(app: App, prefix: DigestPrefix, *, is_full: bool) -> str:
    from reflow.taskdb import RunQuery, TaskQuery, in_order

    async with _taskdb(app) as taskdb:
        if taskdb is None:
            return ""
        runs = await taskdb.runs(RunQuery(id=prefix))
        if runs:
            entries = [RunEntry(run, await taskdb.tasks(TaskQuery(run_id=run.id))) for run in runs]
            entries = [RunEntry(run, sorted(tasks, key=in_order)) for run, tasks in entries]
            return runs_text(entries, is_long=True, is_full=is_full)
        tasks = await taskdb.tasks(TaskQuery(id=prefix))
    if not tasks:
        return ""
    rows = [task_text(task, is_long=True, is_full=True) for task in tasks]
    return task_header(is_long=True) + "".join(rows)


async def _cached_or_file(app: App, prefix: DigestPrefix, *, is_optional: bool) -> str:
    from reflow.runtime.wiring import has_assoc, open_assoc, open_repository

    repository = open_repository(app.config)
    assoc = open_assoc(app.config) if has_assoc(app.config) else None
    try:
        text = "" if assoc is None else await _cached(app, assoc, repository, prefix)
        return text or await _file(repository, prefix)
    except ReflowError:
        if is_optional:
            return ""  # the run was shown: what else may begin so does not matter
        raise
    finally:
        await repository.close()
        if assoc is not None:
            await assoc.close()


async def _cached(app: App, assoc: Assoc, repository: Repository, prefix: DigestPrefix) -> str:
    from reflow.cli.cachekey import cache_keys_of

    for key in await cache_keys_of(app, assoc, prefix):
        text = await _fileset_at(assoc, repository, key.shown, key.stored)
        if text:
            return text
    return ""


async def _fileset_at(assoc: Assoc, repository: Repository, shown: Digest, key: Digest) -> str:
    """The cached fileset under a key, with the name it is shown by; nothing when there is none."""
    from reflow.assoc import Kind as AssocKind
    from reflow.core.filesetcodec import decode_fileset

    found = await assoc.get_many([(AssocKind.FILESET_V2, key), (AssocKind.FILESET, key)])
    for (kind, _), value in found.items():
        if isinstance(value, ReflowError):
            raise value
        data = (await repository.read_many([value]))[value]
        if isinstance(data, ReflowError):
            if kind_of(data) is Kind.NOT_EXIST:
                continue
            raise data
        fileset = decode_fileset(data, kind)
        body = fileset_text("\t", fileset) if fileset.count() else "\t(empty)\n"
        return f"{shown.hex()} (cached fileset)\n{body}"
    return ""


async def _file(repository: Repository, prefix: DigestPrefix) -> str:
    from reflow.cli.lookup import expand

    try:
        file = await repository.stat(await expand(repository, prefix))
    except ReflowError as err:
        if kind_of(err) is Kind.NOT_EXIST:
            return ""
        raise
    assert file.id is not None
    return f"{file.id.hex()} (file)\n\tsize:\t{file.size}\n"


def fileset_text(lead: str, fileset: Fileset) -> str:
    """A fileset's files, one a line, lists with their index."""
    if fileset.members:
        parts = [
            f"{lead}list[{index}]:\n{fileset_text(lead + chr(9), member)}"
            for index, member in enumerate(fileset.members)
        ]
        return "".join(parts)
    lines = []
    for path in fileset.sorted_paths():
        file = fileset.files[path]
        id_text = str(file.id) if file.id is not None else "<zero>"
        size = format_size(file.size)
        lines.append(f"{lead}{path}:\t{id_text} ({size}) assertions:{file.assertions.short()}\n")
    return "".join(lines)


async def _tell_exec(app: App, word: str, prefix: DigestPrefix) -> None:
    from reflow.taskdb import TaskQuery

    async with _taskdb(app) as taskdb:
        tasks = [] if taskdb is None else await taskdb.tasks(TaskQuery(id=prefix))
    if len(tasks) == 1 and tasks[0].inspect is None:
        from reflow.cli.liveinfo import live_exec_text

        text = await live_exec_text(app, prefix)
        if text:
            app.write(tabulate(f"{word} (exec)\n{text}"))
            return
    if len(tasks) != 1 or (inspect := inspect_of(tasks[0])) is None:
        reason = (
            "no such task" if not tasks else "it has not ended" if len(tasks) == 1 else "several begin so"
        )
        raise Fatal(f"error inspecting exec {word}: {reason}")
    app.write(tabulate(f"{word} (exec)\n{_exec_block(inspect)}"))


def _exec_block(inspect: ExecInspect) -> str:
    config = inspect.config
    lines = [f"\tstate:\t{inspect.state}", f"\ttype:\t{config.type}"]
    for label, value in (("ident", config.ident), ("url", config.url), ("image", config.image)):
        if value:
            lines.append(f"\t{label}:\t{value}")
    text = "".join([f"{line}\n" for line in lines])
    if config.cmd:
        text += _command_block(config)
    if inspect.commands:
        text += "\ttop:\n" + "".join([f"\t\t {command}\n" for command in inspect.commands])
    failure = inspect.exec_error or inspect.error
    if failure is not None:
        text += f"\terror:\t{failure.text(': ')}\n"
    return text


def _command_block(config: ExecConfig) -> str:
    """The command with its arguments named by number, and below it what each stands for."""
    from reflow.lang.print_value import quote_text

    names = tuple(f"{{{{arg[{index}]}}}}" for index in range(len(config.args)))
    text = f"\tcmd:\t{quote_text(config.cmd % names)}\n"
    shown: set[int] = set()
    for index, arg in enumerate(config.args):
        if isinstance(arg, OutputArg):
            text += f"\t  arg[{index}]: output {arg.index}\n"
        elif index not in shown:
            same = [i for i, other in enumerate(config.args) if isinstance(other, InputArg) and other == arg]
            shown.update(same)
            text += f"\t  {', '.join([f'arg[{i}]' for i in same])}:\n" + fileset_text("\t    ", arg.fileset)
    return text


COMMAND = Command(
    "info",
    "info [-exact_cost] names...",
    _DETAILS,
    run,
    flags=[
        ("exact_cost", "bool", "false", "exact costs, from the spot data feed (clusters only)"),
        ("full", "bool", "false", "ids and error texts in full"),
    ],
    min_words=1,
    max_words=None,
)
