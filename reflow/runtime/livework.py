"""What runs on this machine just now, whoever started it: runs, and the execs of local directories.

A run lives while some process has the lock of its state. An exec runs while some process has the lock of its
directory, whose file tells which exec and which process these are (`reflow.executor.execdir`). The record of
runs says what they are about.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from reflow.core.digest import Digest, DigestPrefix
from reflow.executor import proctree
from reflow.executor.execdir import FAILED, KILLED, Tenant, is_locked, tenant_of
from reflow.runtime.config import Config
from reflow.runtime.home import runs_dir
from reflow.runtime.localcluster import exec_dir
from reflow.runtime.runstate import RunFiles, is_file_locked
from reflow.taskdb import Run, RunQuery, Task, TaskDB, TaskQuery, is_alive

GRACE_S = 1.0
"""How long processes have to end after they were asked to."""

_POLL_S = 0.02


class LiveRun(NamedTuple):
    """A run whose process lives, with its tasks that have not ended."""

    run: Run
    tasks: list[Task]


class LocalExecDir(NamedTuple):
    """An exec's directory: of one that runs, or of one that failed and is kept."""

    path: str
    tenant: Tenant
    is_running: bool


async def live_runs(taskdb: TaskDB) -> list[LiveRun]:
    """The runs of this machine that are alive, oldest first."""
    now = datetime.now(UTC)
    found = []
    for run in await taskdb.runs(RunQuery(since=now)):
        if is_alive(run, now) and is_run_locked(run.id):
            tasks = await taskdb.tasks(TaskQuery(run_id=run.id))
            found.append(LiveRun(run, [task for task in reversed(tasks) if task.end is None]))
    return sorted(found, key=lambda each: (each.run.start, each.run.id))


def is_run_locked(id: Digest) -> bool:
    """Whether some process of this machine does a run."""
    return is_file_locked(_lock_path(id))


def _lock_path(id: Digest) -> str:
    return RunFiles.of(runs_dir(), id).base + ".lock"


def owner_of_run(id: Digest) -> tuple[int, int]:
    """The process that does a run, and how many runs it does; (0, 0) when that cannot be told.

    It can be told where there is a /proc that shows the files that a process of ours has open.
    """
    wanted, directory = os.path.realpath(_lock_path(id)), os.path.realpath(runs_dir()) + os.sep
    for name in _names("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        opened = {target for number in _names(f"/proc/{name}/fd") if (target := _target(name, number))}
        if wanted in opened:
            runs = [path for path in opened if path.startswith(directory) and path.endswith(".lock")]
            return int(name), len(runs)
    return 0, 0


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _target(pid: str, number: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""


# Execs.


def local_dirs(config: Config, live: Collection[LiveRun]) -> list[str]:
    """The local directories that may hold execs: the configured one, and those of tasks that run."""
    found = {exec_dir(config.local_dir): None}
    for each in live:
        for task in each.tasks:
            if (directory := local_dir_of(task)) is not None:
                found[directory] = None
    return list(found)


def local_dir_of(task: Task) -> str | None:
    """The local directory that a task that has not ended runs in."""
    head, logs, *_ = [*task.stdout.rsplit("/", 3), "", ""] if task.stdout.startswith("/") else ["", ""]
    return head if logs == "logs" else None


def local_dir_id(directory: str) -> str:
    """The first part of the names of execs in a local directory."""
    return Digest.of_text(os.path.abspath(directory)).hex()[:16]


def exec_dirs(directory: str) -> Iterator[LocalExecDir]:
    """The directories of execs in a local directory: of those that run, and of those that are kept."""
    for name in sorted(_names(f"{directory}/execs")):
        path = f"{directory}/execs/{name}"
        tenant = tenant_of(path)
        if tenant is None:
            continue
        is_running = is_locked(path)
        if is_running or os.path.exists(f"{path}/{FAILED}"):
            yield LocalExecDir(path, tenant, is_running)


def find_exec(directories: Collection[str], prefix: DigestPrefix) -> list[LocalExecDir]:
    """The exec directories of execs whose ids begin so; those that run come first."""
    found = [
        each
        for directory in directories
        for each in exec_dirs(directory)
        if prefix.expands_to(Digest.parse(each.tenant.id))
    ]
    return sorted(found, key=lambda each: not each.is_running)


def kill_exec(where: LocalExecDir) -> bool:
    """End what runs in an exec's directory; False when there is nothing that this machine can end. Blocks.

    Processes are asked first, and killed a second later; a container is killed at once. The exec's error says
    that it was wanted.
    """
    if tenant_of(where.path) != where.tenant:
        return False
    with contextlib.suppress(OSError), open(f"{where.path}/{KILLED}", "wb"):
        pass
    if where.tenant.executor == "docker":
        return _kill_container(where.tenant.id)
    pids = _family(where)
    if not pids:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _family(where):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + GRACE_S
        while _family(where) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return True


def _family(where: LocalExecDir) -> list[int]:
    """The processes of an exec; none when the directory has another tenant by now."""
    if tenant_of(where.path) != where.tenant or not where.tenant.pid:
        return []
    family = proctree.tree(where.tenant.pid, proctree.scan())
    return [process.pid for process in family if not process.has_ended]


def _kill_container(id: str) -> bool:
    from reflow.executor.dockershell import DockerShell

    shell = DockerShell()
    try:
        container = shell.find(id)
        if container is None:
            return False
        shell.kill(container)
        return True
    finally:
        shell.close()
