"""The launcher (`launcher`) of sandboxes: it mounts overlays besides, and starts bubblewrap.

It has mount namespaces of its own (`sandbox_cells`), where only it and what it starts see the overlays; where
mounting takes a user namespace, it has that too. (Bubblewrap itself cannot mount overlays in the versions
that many systems have; a shell to do so would cost three more programs for each exec.)

Words: the descriptor of the socket, descriptors to keep open, a directory to try overlays in, the program
bwrap, and the ways to mount that may be tried, in order: (name, whether it needs a user namespace, options of
the mount), marshalled, in hexadecimal digits. It says first which of them worked: marshalled, its name
(empty: none), the reasons why others did not, and whether root file systems have their devices already.

A job is a marshalled tuple: the cell, the root file system to make it for when it is new, overlays to mount
before, argv (empty: nothing is started, and the cell goes) and environment, whether the command waits for
the word to go, overlays to unmount at the end, and the log files of stdout and stderr. An overlay to be
mounted is (mount point, a directory with ``upper`` and ``work``, lower layers); of one to be unmounted, that
point is given.

An exec that is held has its sandbox already, but no command: it takes nothing of the machine, and goes with
its run. `RAN` follows an answer when the command has really run, and it was not bubblewrap that failed.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import resource
import signal
import time

from reflow.executor import launcher
from reflow.executor.launcher import ANSWER, ENDING_OFFSET, Running, Server, kill_group, record
from reflow.executor.logstream import LogStream
from reflow.executor.sandbox_cells import HOME, Cells
from reflow.executor.sandbox_mounts import Overlay, Way, enter, mount_overlay, try_way, unmount

STATUS_FD = 3
"""The descriptor on which bubblewrap says what it does."""

HOLD_FD = 4
"""The descriptor on which bubblewrap waits for the word to run the command, if it is held."""

RAN = b"ran"
"""Follows the answer about a command that has run."""

Job = tuple[
    bytes, Overlay | None, list[Overlay], list[bytes], dict[bytes, bytes], bool, list[bytes], list[bytes]
]

_CHUNK_BYTES = 1 << 16
_KILL_S = 5.0
_KILL_PAUSE_S = 0.01


class Sandboxed(Running):
    """A bubblewrap that runs: also, what it says, and what is unmounted, and where, when it has ended."""

    __slots__ = ("cell", "doomed_s", "hold_fd", "said", "status_fd", "unmounts")

    def __init__(self, number: int, pid: int, lock_fd: int, streams: list[LogStream], status_fd: int) -> None:
        super().__init__(number, pid, lock_fd, streams)
        self.hold_fd = -1
        self.status_fd = status_fd
        self.cell = HOME
        self.unmounts: list[bytes] = []
        self.said = b""
        self.doomed_s = 0.0

    def rows(self) -> list[dict[str, object]]:
        """What bubblewrap has said so far."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.status_fd, _CHUNK_BYTES):
                self.said += chunk
        rows = []
        for line in self.said.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    rows.append(row)
        return rows

    def go(self) -> None:
        """Let its command run."""
        if self.hold_fd >= 0:
            with contextlib.suppress(BrokenPipeError):  # it has failed already
                os.write(self.hold_fd, b"x")
            os.close(self.hold_fd)
            self.hold_fd = -1
        self.tell_later()

    def kill_first(self) -> bool:
        """Kill the first process in the sandbox; tell whether it was there."""
        for row in self.rows():
            first = row.get("child-pid")
            if isinstance(first, int) and _parent(first) == self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGKILL)
                    return True
        return False


class SandboxServer(Server):
    """Serves one executor with sandboxes."""

    def __init__(self, socket_fd: int, program: bytes) -> None:
        super().__init__(socket_fd, program)
        for fd in (STATUS_FD, HOLD_FD):
            if fd not in (socket_fd, self._null_fd):
                # So that no descriptor of a job gets this number.
                os.dup2(self._null_fd, fd, inheritable=False)
        self._options = ""
        self._cells: Cells
        self._doomed: dict[int, Sandboxed] = {}

    def choose(self, ways: list[Way], trial: bytes) -> None:
        """Take the first way to mount overlays that works, and say which."""
        reasons: list[str] = []
        for way in ways:
            name, needs_user_namespace, options = way
            reason, has_devices = try_way(way, trial + b"/" + name.encode())
            if not reason:
                enter(needs_user_namespace)
                self._options = options
                self._cells = Cells(options, has_devices=has_devices)
                self._answer(marshal.dumps((name, reasons, has_devices)))
                return
            reasons.append(f"{name}: {reason}")
        self._cells = Cells("", has_devices=False)
        self._answer(marshal.dumps(("", reasons, False)))

    def _start(self, number: int, job: Job, fds: list[int]) -> None:  # type: ignore[override]  # own jobs
        cell, root, overlays, argv, environment, is_held, unmounts, logs = job
        if not argv:
            self._cells.drop(cell)
            self._answer(ANSWER.pack(number, 0, 0))
            return
        if root is not None:
            self._cells.make(root)
        else:
            self._cells.enter(cell)
        mounted: list[bytes] = []
        try:
            for overlay in overlays:
                mount_overlay(overlay, self._options)
                mounted.append(overlay[0])
            running = self._started(number, argv, environment, logs, fds[0], is_held=is_held)
        except (OSError, ValueError):
            for point in mounted:
                unmount(point)
            raise
        running.cell = cell
        running.unmounts = unmounts
        if is_held:
            self._running[running.pid] = running
        else:
            self._note_start(running)

    def _go(self, number: int) -> None:
        for running in list(self._running.values()):
            if running.number == number and isinstance(running, Sandboxed) and running.status == -1:
                running.go()
                self._note_start(running)

    def _started(
        self,
        number: int,
        argv: list[bytes],
        environment: dict[bytes, bytes],
        logs: list[bytes],
        lock_fd: int,
        *,
        is_held: bool,
    ) -> Sandboxed:
        status_fd, status_writer_fd = os.pipe()
        os.set_blocking(status_fd, False)
        hold_reader_fd, hold_fd = os.pipe() if is_held else (-1, -1)
        its_fds = [fd for fd in (status_writer_fd, hold_reader_fd) if fd >= 0]
        try:
            pid, streams = self._spawn(argv, environment, logs, *its_fds)
        except (OSError, ValueError):
            _close(status_fd, hold_fd)
            raise
        finally:
            _close(*its_fds)
        running = Sandboxed(number, pid, lock_fd, streams, status_fd)
        running.hold_fd = hold_fd
        return running

    def _due(self) -> int | None:
        timeout_ms = super()._due()
        if not self._doomed:
            return timeout_ms
        for running in list(self._doomed.values()):
            # The first process of the namespace takes all others with it, and bubblewrap waits for it. Early
            # on there is none, or it is not known yet.
            if not running.kill_first() and time.monotonic() > running.doomed_s:
                kill_group(running.pid, signal.SIGKILL)
        return int(_KILL_PAUSE_S * 1000)

    def _signal(self, number: int, signal_number: int) -> None:
        for running in self._running.values():
            if running.number == number and isinstance(running, Sandboxed):
                self._doom(running)

    def _doom(self, running: Sandboxed) -> None:
        running.doomed_s = time.monotonic() + _KILL_S
        self._doomed[running.pid] = running

    def _orphaned(self) -> None:
        super()._orphaned()
        for running in self._running.values():
            if isinstance(running, Sandboxed) and running.hold_fd >= 0:
                self._doom(running)  # its command has not begun, and there is no room for it

    def _end(self, running: Running) -> None:
        assert isinstance(running, Sandboxed)
        self._lingering.pop(running.pid, None)
        self._doomed.pop(running.pid, None)
        del self._running[running.pid]
        self._cells.enter(running.cell)
        for point in running.unmounts:
            unmount(point)
        self._cells.tidy()
        has_exited = os.WIFEXITED(running.status)
        has_run = not has_exited or any("exit-code" in row for row in running.rows())
        if has_exited and has_run:
            record(running.lock_fd, ENDING_OFFSET, b"exit %d" % os.WEXITSTATUS(running.status))
        _close(running.status_fd, running.hold_fd)
        self._let_go(running, RAN if has_run else b"")


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _parent(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])


def prepare() -> None:
    """What all that we start inherits: limits as high as they may be, groups; it is killed first."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (hard, hard))
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # root of a user namespace may not
            os.setgroups([os.getgid()])


def main(words: list[str]) -> None:
    """Serve."""
    socket_fd, *keep_fds, trial, program, ways = words
    launcher.prepare(keep_fds)
    prepare()
    server = SandboxServer(int(socket_fd), os.fsencode(program))
    server.choose(marshal.loads(bytes.fromhex(ways)), os.fsencode(trial))
    server.serve()
