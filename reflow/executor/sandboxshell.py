"""Bash in the sandbox of an exec that runs, opened from outside of its run. It blocks.

The file of the lock of an exec's directory tells the pid of bubblewrap, whose only child is the command. A
pid may be given to another process at any moment, so everything is opened first, by way of descriptors that
stay with one process, and looked at then; `sandbox_enter` is given nothing but descriptors.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.executor import proctree
from reflow.executor.execdir import Tenant, is_locked, tenant_of
from reflow.executor.layout import os_error
from reflow.executor.sandbox_enter import Job, Rights
from reflow.executor.sandbox_image import BASH
from reflow.executor.spawn import program_words

_NAMESPACES = ("user", "mnt", "pid", "ipc")
_MAX_REASON_BYTES = 4096
_CHUNK_BYTES = 1 << 16


class _Processes(NamedTuple):
    """Descriptors of the directories in /proc of bubblewrap and of the command's first process."""

    bubblewrap: int
    first: int


def run_shell(path: str, tenant: Tenant) -> int:
    """Run bash in the sandbox of the exec that has a directory; its exit status.

    Bash has a terminal when stdin and stdout are one. Raises NOT_EXIST when the exec's command does not run,
    NOT_ALLOWED when it is somebody else's.
    """
    with ExitStack() as stack:
        try:
            job = _job(path, tenant, stack)
        except (FileNotFoundError, ProcessLookupError) as err:
            raise _not_there(tenant) from err
        except OSError as err:
            raise os_error("shell", tenant.id[:8], err) from err
        return _run(job, tenant)


def _not_there(tenant: Tenant) -> ReflowError:
    cause = "its command has not started yet, or has just ended"
    return ReflowError(Kind.NOT_EXIST, "shell", tenant.id[:8], cause=cause)


def _job(path: str, tenant: Tenant, stack: ExitStack) -> Job:
    """What to run, with all descriptors open. Raises ProcessLookupError, and other OSErrors."""
    processes = _found(tenant, stack)
    first = processes.first
    namespaces = {name: _opened(f"ns/{name}", first, stack) for name in _NAMESPACES}
    root_fd = _opened("root", first, stack, os.O_PATH | os.O_DIRECTORY)
    environment = _environment(_content("environ", first))
    status = _status(first)
    directory = _checked(path, tenant, processes)
    is_terminal = os.isatty(0) and os.isatty(1)
    if is_terminal:
        environment.setdefault(b"TERM", os.fsencode(os.environ.get("TERM", "xterm")))
    return Job(
        namespaces,
        root_fd,
        int(status["Uid"].split()[1]),
        int(status["Gid"].split()[1]),
        [int(word) for word in status["Groups"].split()],
        _rights(status),
        directory,
        [os.fsencode(BASH)],
        environment,
        is_terminal,
    )


def _found(tenant: Tenant, stack: ExitStack) -> _Processes:
    if not tenant.pid:
        raise ProcessLookupError
    bubblewrap = _opened(f"/proc/{tenant.pid}", None, stack, os.O_DIRECTORY)
    for process in proctree.scan().values():
        if process.parent == tenant.pid:
            return _Processes(bubblewrap, _opened(f"/proc/{process.pid}", None, stack, os.O_DIRECTORY))
    raise ProcessLookupError


def _checked(path: str, tenant: Tenant, processes: _Processes) -> bytes:
    """Make sure that these are an exec's processes still; the directory that its command starts in."""
    words = _content("cmdline", processes.bubblewrap).split(b"\0")
    own = os.fsencode(f"/execs/{os.path.basename(path)}/return")
    is_ours = any(word.endswith(own) for word in words)
    # Until it becomes the command, the child has the words of bubblewrap.
    has_begun = _content("cmdline", processes.first).split(b"\0") != words
    is_child = _parent(processes.first) == tenant.pid
    if not (is_ours and has_begun and is_child and tenant_of(path) == tenant and is_locked(path)):
        raise ProcessLookupError
    return words[words.index(b"--chdir") + 1]


def _opened(name: str, directory: int | None, stack: ExitStack, flags: int = 0) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
    stack.callback(os.close, fd)
    return fd


def _content(name: str, directory: int) -> bytes:
    with ExitStack() as stack:
        fd = _opened(name, directory, stack)
        return b"".join(iter(lambda: os.read(fd, _CHUNK_BYTES), b""))


def _parent(process: int) -> int:
    text = _content("stat", process)
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _environment(text: bytes) -> dict[bytes, bytes]:
    pairs = [word.partition(b"=") for word in text.split(b"\0") if b"=" in word]
    return {name: value for name, _, value in pairs}


def _status(process: int) -> dict[str, str]:
    lines = _content("status", process).decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in [line.partition(":") for line in lines]}


def _rights(status: dict[str, str]) -> Rights:
    inheritable, permitted, effective, bounding, ambient = [
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    ]
    no_new = int(status.get("NoNewPrivs", "1")) != 0
    return Rights(inheritable, permitted, effective, bounding, ambient, no_new)


def _run(job: Job, tenant: Tenant) -> int:
    reader_fd, writer_fd = os.pipe()
    job_fd = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        os.write(job_fd, marshal.dumps(tuple([*job[:5], tuple(job.rights), *job[6:]])))
        fds = [job_fd, writer_fd]
        with _ignored(signal.SIGINT):
            status = subprocess.call(
                program_words("reflow.executor.sandbox_enter", [str(fd) for fd in fds]),
                pass_fds=[*fds, *job.namespaces.values(), job.root_fd],
            )
    finally:
        os.close(writer_fd)
        os.close(job_fd)
    with open(reader_fd, "rb") as file:
        reason = file.read(_MAX_REASON_BYTES).decode("utf-8", "replace")
    if reason:
        cause = f"its sandbox cannot be entered: {reason}"
        raise ReflowError(Kind.UNAVAILABLE, "shell", tenant.id[:8], cause=cause)
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    """Leave a signal to the shell."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
