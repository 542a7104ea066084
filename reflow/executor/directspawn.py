"""Commands started by the run itself, where the system lacks what a launcher takes (it is not Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence

from reflow.executor.launcher import Job
from reflow.executor.logstream import open_log
from reflow.executor.spawn import Child

_UMASK = 0o022


def is_needed() -> bool:
    """Tell whether there can be no launcher here."""
    return not (hasattr(os, "memfd_create") and hasattr(socket, "SOCK_SEQPACKET") and hasattr(os, "waitid"))


class DirectSpawner:
    """Starts commands as `reflow.executor.spawn.Launcher` does. When we die, nobody sees how they end."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._children: set[int] = set()

    def launch(self, job: Job, fds: Sequence[int]) -> Child:
        """Start a command; ``fds`` are its lock. Raises OSError."""
        argv, environment, directory, logs = job
        with contextlib.ExitStack() as stack:
            # To open /dev/stderr does not truncate these: it is no link there, as it is on Linux.
            outputs = [stack.enter_context(open(open_log(path), "wb")) for path in logs]
            process = subprocess.Popen(
                argv,
                executable=self._program,
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                cwd=directory,
                env=environment,
                start_new_session=True,
                umask=_UMASK,
            )
        child = Child(process.pid)
        child.pid = process.pid
        child.started.set_result(process.pid)
        self._children.add(process.pid)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._await_end, args=(process, child, loop), daemon=True).start()
        return child

    def _await_end(
        self, process: subprocess.Popen[bytes], child: Child, loop: asyncio.AbstractEventLoop
    ) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # Before the leader is reaped: until then its number is not given to anybody else.
        self._children.discard(process.pid)
        _kill_group(process.pid, signal.SIGKILL)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_end, child, status)

    def signal(self, child: Child, number: int) -> None:
        """Send a signal to a command's process group, unless it has ended."""
        if child.pid in self._children:
            _kill_group(child.pid, number)

    def kill(self) -> None:
        """Kill all that runs, at once."""
        for pid in list(self._children):
            _kill_group(pid, signal.SIGKILL)

    def close(self) -> None:
        """Nothing is left to let go of."""


def _end(child: Child, status: int) -> None:
    if not child.ended.done():
        child.ended.set_result(status)


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
