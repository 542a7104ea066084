"""Which processes a shell is opened beside, and which never."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.executor.execdir import ExecDir, Tenant, acquire
from reflow.executor.sandboxshell import _job, run_shell

ID = "ab" * 32
DOZE = "sleep 86400; :"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[ExecDir]:
    (tmp_path / "execs").mkdir()
    made = acquire(f"{tmp_path}/execs/{ID}")
    assert made is not None
    yield made
    made.release()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def process_like_bubblewrap(path: str, stack: ExitStack, script: str = DOZE) -> int:
    """The pid of a process with the words of a bubblewrap, and with a child."""
    words = ["sh", "-c", script, "bwrap", "--chdir", "/usr", "--bind", f"{path}/return", "/return"]
    process = stack.enter_context(subprocess.Popen(words, start_new_session=True))
    stack.callback(process.kill)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    while script == DOZE and not Path(f"/proc/{found[0]}/cmdline").read_text().startswith("sleep"):
        time.sleep(0.01)
    stack.callback(os.killpg, process.pid, 9)
    return process.pid


def refused(path: str, tenant: Tenant) -> None:
    with pytest.raises(ReflowError) as caught:
        run_shell(path, tenant)
    assert caught.value.kind is Kind.NOT_EXIST
    assert str(caught.value).endswith("its command has not started yet, or has just ended")


def test_the_first_process_is_found(directory: ExecDir, stack: ExitStack) -> None:
    tenant = Tenant(ID, os.getpid(), "sandbox", process_like_bubblewrap(directory.path, stack))
    directory.note(tenant)
    job = _job(directory.path, tenant, stack)
    assert (job.directory, job.argv, job.uid) == (b"/usr", [b"/bin/bash"], os.geteuid())
    assert os.fstat(job.namespaces["mnt"]).st_ino == os.stat("/proc/self/ns/mnt").st_ino
    assert job.environment[b"PATH"] == os.fsencode(os.environ["PATH"])
    directory.release()
    refused(directory.path, tenant)


def test_a_command_that_has_not_started(directory: ExecDir, stack: ExitStack) -> None:
    tenant = Tenant(ID, os.getpid(), "sandbox", 0)
    directory.note(tenant)
    refused(directory.path, tenant)
    before_exec = process_like_bubblewrap(directory.path, stack, f"({DOZE}); :")
    tenant = tenant._replace(pid=before_exec)
    directory.note(tenant)
    refused(directory.path, tenant)


def test_a_pid_that_is_somebody_elses_now(directory: ExecDir, stack: ExitStack) -> None:
    other = process_like_bubblewrap(f"{directory.path[:-1]}c", stack)
    tenant = Tenant(ID, os.getpid(), "sandbox", other)
    directory.note(tenant)
    refused(directory.path, tenant)


def test_a_pid_that_is_nobodys(directory: ExecDir) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    tenant = Tenant(ID, os.getpid(), "sandbox", process.pid)
    directory.note(tenant)
    refused(directory.path, tenant)


def test_a_directory_that_another_exec_has_now(directory: ExecDir, stack: ExitStack) -> None:
    tenant = Tenant(ID, os.getpid(), "sandbox", process_like_bubblewrap(directory.path, stack))
    directory.note(tenant._replace(id="cd" * 32))
    refused(directory.path, tenant)
