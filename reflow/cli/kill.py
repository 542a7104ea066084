"""``reflow kill``: end runs and execs of this machine."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.cli.names import BadNameError, Name, NameKind, parse_name

if TYPE_CHECKING:
    from reflow.core.digest import Digest, DigestPrefix
    from reflow.runtime.livework import LiveRun

_DETAILS = """\
Kill ends what runs on this machine:

	ID	of a run: it ends as by Ctrl-C; nothing of it stays, and what it finished is cached. Of a run
		that is part of a batch the execs are ended, and the other runs go on
	ID	of an exec or task, or its name ALLOC/ID: its processes get SIGTERM, and SIGKILL a second
		later; a container is killed. Its run goes on as after any exec that fails
	ALLOC	as "reflow list" shows it: all runs that have execs in that directory

Names that stand for nothing that runs are told, and the exit status is then 1."""

_PATIENCE_S = 15.0


def run(app: App, arguments: Arguments) -> int:
    """End each; go on after those that cannot be ended."""
    failures = 0
    for word in arguments.words:
        try:
            app.run_async(_kill(app, word))
        except Fatal as err:
            app.write_error(f"{err}\n")
            failures += 1
    return 1 if failures else 0


async def _kill(app: App, word: str) -> int:
    from reflow.cli.working import work_here
    from reflow.core.errors import ReflowError

    try:
        name = parse_name(word)
    except BadNameError as err:
        raise Fatal(f"invalid argument '{word}': {err}") from err
    if name.kind is NameKind.HOST:
        raise Fatal(f"'{word}' not an alloc")
    live, directories = await work_here(app)
    try:
        _kill_named(word, name, live, directories)
    except ReflowError as err:
        raise Fatal(f"{word}: {err}") from err
    return 0


def _kill_named(word: str, name: Name, live: list[LiveRun], directories: list[str]) -> None:
    from reflow.runtime.livework import local_dir_id

    if name.kind is NameKind.ALLOC:
        _kill_alloc(word, name.alloc, live, directories)
        return
    assert name.id is not None
    if name.kind is NameKind.ID and str(name.id) in map(local_dir_id, directories):
        _kill_alloc(word, str(name.id), live, directories)
        return
    runs = [each for each in live if name.id.expands_to(each.run.id)] if name.kind is NameKind.ID else []
    if len(runs) > 1:
        raise Fatal(f"{word}: more than one run begins so")
    if runs:
        _kill_run(runs[0], directories)
        return
    _kill_exec(word, name.id, directories)


def _kill_alloc(word: str, alloc: str, live: list[LiveRun], directories: list[str]) -> None:
    from reflow.runtime.livework import local_dir_id, local_dir_of

    chosen = [directory for directory in directories if local_dir_id(directory) == alloc]
    runs = [each for each in live if any(local_dir_of(task) in chosen for task in each.tasks)]
    if not chosen or not runs:
        raise Fatal(f"alloc {alloc or '/'} (from arg {word}): resource does not exist: nothing runs there")
    for each in runs:
        _kill_run(each, directories)


def _kill_run(live: LiveRun, directories: list[str]) -> None:
    """End a run, and return when it is gone."""
    from reflow.runtime.livework import is_run_locked, owner_of_run

    pid, count = owner_of_run(live.run.id)
    if not pid:
        raise Fatal(f"run {live.run.id.short}: its process cannot be found: end it where it was started")
    if count > 1:
        for task in live.tasks:
            _kill_task(task.result_id, directories)
        return
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as err:
        raise Fatal(f"run {live.run.id.short}: process {pid}: {(err.strerror or '').lower()}") from err
    deadline = time.monotonic() + _PATIENCE_S
    while is_run_locked(live.run.id):
        if time.monotonic() > deadline:
            raise Fatal(f"run {live.run.id.short}: process {pid} was asked to end, and has not yet")
        time.sleep(0.05)


def _kill_task(id: Digest | None, directories: list[str]) -> None:
    from reflow.core.digest import DigestPrefix
    from reflow.runtime.livework import find_exec, kill_exec

    for each in find_exec(directories, DigestPrefix(id)) if id is not None else []:
        if each.is_running:
            kill_exec(each)


def _kill_exec(word: str, prefix: DigestPrefix, directories: list[str]) -> None:
    from reflow.runtime.livework import find_exec, kill_exec

    running = [each for each in find_exec(directories, prefix) if each.is_running]
    if not running:
        raise Fatal(f"'{word}' not an alloc, and no run or exec that runs here: see reflow list -a")
    if len(running) > 1:
        raise Fatal(f"{word}: more than one exec begins so")
    if not kill_exec(running[0]):
        raise Fatal(f"{word}: it has not started yet, or is just ending")


COMMAND = Command("kill", "kill allocs...", _DETAILS, run, min_words=1, max_words=None)
