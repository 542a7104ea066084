"""``reflow logs``: the log of a run, or the output of an exec, whether it runs or has ended."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.cli.names import EXAMPLES, BadNameError, NameKind, parse_name
from reflow.cli.tables import is_live
from reflow.core.digest import Digest, DigestPrefix
from reflow.runtime.config import not_supported
from reflow.runtime.home import runs_dir
from reflow.runtime.log import LEVELS, parse_level

if TYPE_CHECKING:
    from reflow.taskdb import Run, Task, TaskDB

_DETAILS = f"""\
Logs prints the log of a run, or what an exec wrote.

For a run, messages of the level -level and above are printed. For a task or exec it is what its command
wrote to stderr, or with -stdout to stdout; -f goes on until it ends. Names are, for example

{EXAMPLES}"""

_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )\[([A-Z]+)\] (.*)", re.DOTALL)
_POLL_S = 0.3
_CHUNK_BYTES = 1 << 20


def run(app: App, arguments: Arguments) -> int:
    """Find what the name stands for and print its log."""
    (word,) = arguments.words
    try:
        level = parse_level(arguments["level"])
    except ValueError as err:
        raise UsageError(f"invalid -level: {err}") from err
    try:
        name = parse_name(word)
    except BadNameError as err:
        raise UsageError(f"invalid argument '{word}': {err}") from err
    if arguments["reflowlet"]:
        raise not_supported("logs -reflowlet (the workers of a cluster)")
    if name.kind in (NameKind.ALLOC, NameKind.HOST):
        raise Fatal("alloc URI and hostnames require -reflowlet to be set")
    assert name.id is not None
    if name.kind is NameKind.ID:
        logs = _local_logs(name.id)
        if len(logs) == 1:
            app.print(f"Using local runlog file {logs[0]}")
            with open(logs[0], "rb") as stream:
                _print_run_log(app, stream.read(), level)
            return 0
    return app.run_async(_recorded(app, word, name.id, arguments, level))


def _local_logs(prefix: DigestPrefix) -> list[str]:
    """Logs of runs of this machine whose ids begin so."""
    directory, digits = runs_dir(), str(prefix)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [
        os.path.join(directory, name)
        for name in names
        if name.endswith(".runlog") and name.startswith(digits)
    ]


def _print_run_log(app: App, data: bytes, level: int) -> None:
    """Print messages at or above a level; lines without a stamp belong to the message before."""
    is_shown = False
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            is_shown = LEVELS.get(match[2].lower(), 0) <= level
            line = match[1] + match[3]
        if is_shown:
            app.print(line)


async def _recorded(app: App, word: str, prefix: DigestPrefix, arguments: Arguments, level: int) -> int:
    """Find the id in the record of runs and tasks; exactly one may match."""
    from reflow.runtime.wiring import has_taskdb, open_taskdb
    from reflow.taskdb import RunQuery, TaskQuery

    if not has_taskdb(app.config):
        raise Fatal(f"unable to resolve id {word}: no run or task of this machine begins so")
    taskdb = open_taskdb(app.config)
    assert taskdb is not None
    try:
        runs = await taskdb.runs(RunQuery(id=prefix))
        tasks = await taskdb.tasks(TaskQuery(id=prefix))
        matches = [f"TaskId {task.id}" for task in tasks] + [f"RunId {run.id}" for run in runs]
        if len(matches) > 1:
            raise Fatal(f"Found multiple matches for the given ID. Matches are [{', '.join(matches)}]")
        if not matches:
            raise Fatal(f"unable to resolve id {word}: no run or task of this machine begins so")
        if runs:
            await _stored_run_log(app, runs[0], level)
            return 0
        if not arguments["f"]:
            await _print_output(app, taskdb, tasks[0], is_stdout=arguments["stdout"])
            return 0
        follower = _Follower(app, taskdb, tasks[0], is_stdout=arguments["stdout"])
        while not await follower.step():
            found = await taskdb.tasks(TaskQuery(id=DigestPrefix(tasks[0].id)))
            follower.task = found[0] if found else follower.task
    finally:
        await taskdb.close()
    return 0


async def _stored_run_log(app: App, run: Run, level: int) -> None:
    if run.runlog is None:
        raise Fatal(
            f"run log digest for run {run.id.short} is empty: it has not ended, or ended without clean-up"
        )
    _print_run_log(app, await _read_object(app, run.runlog), level)


async def _read_object(app: App, digest: Digest) -> bytes:
    from reflow.runtime.wiring import open_repository

    repository = open_repository(app.config)
    try:
        return b"".join([chunk async for chunk in repository.get(digest)])
    finally:
        await repository.close()


async def _read_output(app: App, taskdb: TaskDB, digest: Digest) -> bytes:
    """An object with output: of the record, where that has objects of its own."""
    from reflow.taskdb import ObjectKeeper

    if not isinstance(taskdb, ObjectKeeper):
        return await _read_object(app, digest)
    data = (await taskdb.read_objects([digest]))[digest]
    if not isinstance(data, bytes):
        raise data
    return data


async def _print_output(app: App, taskdb: TaskDB, task: Task, *, is_stdout: bool) -> None:
    """Print what there is of a task's output."""
    place = task.stdout if is_stdout else task.stderr
    if place.startswith("sha256:"):
        app.write_bytes(await _read_output(app, taskdb, Digest.parse(place)))
        return
    _copy_file(app, place)


def _copy_file(app: App, path: str) -> None:
    """Print a file; nothing when there is none: then nothing was written."""
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                app.write_bytes(chunk)
    except FileNotFoundError:
        return


class _Follower:
    """Prints a growing file from where it stopped last time."""

    def __init__(self, app: App, taskdb: TaskDB, task: Task, *, is_stdout: bool) -> None:
        self.task = task
        self._app = app
        self._taskdb = taskdb
        self._is_stdout = is_stdout
        self._offset = 0

    async def step(self) -> bool:
        """Print what is new; wait a moment and return False unless the task has ended."""
        has_ended = not is_live(self.task)
        place = self.task.stdout if self._is_stdout else self.task.stderr
        if place.startswith("sha256:"):
            data = await _read_output(self._app, self._taskdb, Digest.parse(place))
            self._print(data[self._offset :])
        else:
            self._print(_read_from(place, self._offset))
        if has_ended:
            return True
        await asyncio.sleep(_POLL_S)
        return False

    def _print(self, data: bytes) -> None:
        if data:
            self._app.write_bytes(data)
            self._app.flush()
            self._offset += len(data)


def _read_from(path: str, offset: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read()
    except FileNotFoundError:
        return b""


COMMAND = Command(
    "logs",
    "logs [OPTIONS] ARG",
    _DETAILS,
    run,
    flags=[
        ("end", "string", "", "with -reflowlet: only what was logged before: YYYY-MM-DD or a duration ago"),
        ("f", "bool", "false", "follow an exec's output until it ends"),
        ("level", "string", "info", "of a run: lowest level of messages: error, info or debug"),
        ("reflowlet", "bool", "false", "the log of a cluster's worker instead"),
        ("start", "string", "", "with -reflowlet: only what was logged since: YYYY-MM-DD or a duration ago"),
        ("stdout", "bool", "false", "of an exec: what it wrote to stdout instead of stderr"),
    ],
    min_words=1,
    max_words=1,
)
