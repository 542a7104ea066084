"""What runs here: locks, tenants, and rows of the record."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reflow.core.digest import Digest, DigestPrefix
from reflow.executor.execdir import Tenant, acquire, tenant_of
from reflow.executor.layout import log_path
from reflow.runtime import livework
from reflow.runtime.config import Config
from reflow.runtime.runstate import RunFiles, StateFile
from reflow.taskdb import Run, Task
from reflow.taskdb.memory import MemoryTaskDB

RUN, EXEC = Digest.of_text("run"), Digest.of_text("exec")

HOLD = """
import fcntl, os, sys, time
files = [open(path, "a") for path in sys.argv[1:]]
for file in files: fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def runs(reflow_home: Path) -> Path:
    path = reflow_home / "runs"
    path.mkdir(parents=True)
    return path


def holding(*paths: Path) -> subprocess.Popen[str]:
    """A process that has the locks of some runs."""
    words = [sys.executable, "-c", HOLD, *map(str, paths)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child, in a session of its own."""
    process = subprocess.Popen(["bash", "-c", "sleep 600 & sleep 601"], start_new_session=True)
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_owner_of_a_run_is_who_has_its_lock(runs: Path) -> None:
    locks = [runs / f"{Digest.of_text(name).hex()}.lock" for name in ("run", "other")]
    assert livework.owner_of_run(RUN) == (0, 0)
    one = holding(locks[0])
    try:
        assert livework.owner_of_run(RUN) == (one.pid, 1)
        assert livework.is_run_locked(RUN)
    finally:
        one.kill()
        one.communicate()
    assert not livework.is_run_locked(RUN)
    both = holding(*locks)
    try:
        assert livework.owner_of_run(RUN) == (both.pid, 2)
    finally:
        both.kill()
        both.communicate()


def task(localdir: str, **changes: object) -> Task:
    fields: dict[str, object] = {
        "id": EXEC,
        "run_id": RUN,
        "flow_id": EXEC,
        "result_id": EXEC,
        "start": datetime.now(UTC),
        "stdout": log_path(localdir, EXEC, "stdout"),
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


async def test_a_run_is_alive_while_it_is_kept_alive_and_locked(runs: Path, tmp_path: Path) -> None:
    taskdb = MemoryTaskDB()
    now = datetime.now(UTC)
    run = Run(id=RUN, user="jo", program="p.rf", start=now, keepalive=now + timedelta(minutes=1))
    taskdb.put_run(run)
    taskdb.put_task(task(str(tmp_path)))
    taskdb.put_task(task(str(tmp_path), id=RUN, end=now))
    assert await livework.live_runs(taskdb) == []
    file = StateFile(RunFiles.of(str(runs), RUN))
    (found,) = await livework.live_runs(taskdb)
    assert (found.run.id, [each.id for each in found.tasks]) == (RUN, [EXEC])
    assert livework.local_dir_of(found.tasks[0]) == str(tmp_path)
    config = Config({"cluster": f"localcluster,dir={tmp_path}/conf"})
    assert livework.local_dirs(config, [found]) == [f"{tmp_path}/conf/.reflow", str(tmp_path)]
    file.close()
    assert await livework.live_runs(taskdb) == []


def test_a_stored_output_tells_no_directory() -> None:
    assert livework.local_dir_of(task("/x", stdout=str(EXEC))) is None
    assert livework.local_dir_of(task("/x", stdout="")) is None
    assert livework.local_dir_of(task("/x", stdout="/var/log/a/b")) is None


def test_exec_directories_are_found_by_id(tmp_path: Path) -> None:
    running, failed = acquire(f"{tmp_path}/execs/r"), acquire(f"{tmp_path}/execs/f")
    nobody = acquire(f"{tmp_path}/execs/n")
    assert running
    assert failed
    assert nobody
    running.note(Tenant(EXEC.hex(), os.getpid(), "process", 0))
    failed.note(Tenant(EXEC.hex(), 1, "process", 0))
    failed.keep("failed", "false")
    found = livework.find_exec([str(tmp_path)], DigestPrefix.parse(EXEC.hex()[:8]))
    assert [(os.path.basename(each.path), each.is_running) for each in found] == [("r", True), ("f", False)]
    assert livework.find_exec([str(tmp_path)], DigestPrefix(RUN)) == []
    running.remove()
    nobody.remove()


def test_processes_of_an_exec_end_when_it_is_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    directory = acquire(f"{tmp_path}/execs/r")
    assert directory is not None
    directory.note(Tenant(EXEC.hex(), os.getpid(), "process", sleeper.pid))
    (where,) = livework.find_exec([str(tmp_path)], DigestPrefix(EXEC))
    # The leader is reaped when it has ended, as its executor would.
    signal.signal(signal.SIGCHLD, lambda number, frame: sleeper.poll())
    try:
        assert livework.kill_exec(where)
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    assert sleeper.wait(timeout=5) == -signal.SIGTERM
    assert directory.is_killed
    assert not livework.kill_exec(where)
    directory.remove()


def test_the_next_tenant_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    directory = acquire(f"{tmp_path}/execs/r")
    assert directory is not None
    directory.note(Tenant(EXEC.hex(), os.getpid(), "process", sleeper.pid))
    (where,) = livework.find_exec([str(tmp_path)], DigestPrefix(EXEC))
    directory.note(Tenant(RUN.hex(), os.getpid(), "process", sleeper.pid))
    assert tenant_of(directory.path) != where.tenant
    assert not livework.kill_exec(where)
    assert sleeper.poll() is None
    directory.remove()
