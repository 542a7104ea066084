"""The launcher as the executor sees it: asks it for processes, and learns of their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.executor import sandbox_launcher
from reflow.executor.sandbox_launcher import ANSWER, LAUNCH_ERROR, REQUEST, Job, Way

_STATUS_BYTES = 1 << 16
_START_S = 30.0
_KILL_S = 5.0
_KILL_PAUSE_S = 0.01
_BWRAP_TROUBLE = "bubblewrap failed"


class Exit(NamedTuple):
    """How a process ended. ``trouble`` says why the command was never run; empty when it was."""

    code: int
    trouble: str = ""

    @property
    def is_launch_trouble(self) -> bool:
        """Whether it did not even get as far as bubblewrap."""
        return self.trouble.startswith(LAUNCH_ERROR.decode())


class Child:
    """A bubblewrap that was asked for. ``started`` gives its pid, ``ended`` its wait status."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._status_fd, self.status_writer_fd = os.pipe()
        os.set_blocking(self._status_fd, False)
        self._status = b""

    def handed_over(self) -> None:
        """The writer's end of the status pipe is the launcher's now."""
        if self.status_writer_fd >= 0:
            os.close(self.status_writer_fd)
            self.status_writer_fd = -1

    async def exit(self) -> Exit:
        """How it ended. Raises UNAVAILABLE when the launcher is gone."""
        status = os.waitstatus_to_exitcode(await self.ended)
        code = 128 - status if status < 0 else status
        rows = self._rows()
        if any("exit-code" in row for row in rows) or status < 0:
            return Exit(code)
        text = self._status.decode("utf-8", "replace")
        return Exit(code, text if text.startswith(LAUNCH_ERROR.decode()) else _BWRAP_TROUBLE)

    async def kill(self) -> None:
        """Kill the command with all that it has started; returns when nothing of it is left."""
        with contextlib.suppress(ReflowError, TimeoutError):
            pid = await asyncio.wait_for(asyncio.shield(self.started), _KILL_S)
            loop = asyncio.get_running_loop()
            deadline_s = loop.time() + _KILL_S
            while not self.ended.done():
                # The first process of the namespace takes all others with it, and bubblewrap waits for it. Early
                # on there is none, or it is not known yet.
                if not self._kill_first(pid) and loop.time() > deadline_s:
                    _kill_group(pid)
                await asyncio.wait([self.ended], timeout=_KILL_PAUSE_S)

    def _kill_first(self, pid: int) -> bool:
        """Kill the first process in the sandbox; tell whether it was there."""
        for row in self._rows():
            first = row.get("child-pid")
            if isinstance(first, int) and _parent(first) == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGKILL)
                    return True
        return False

    def _rows(self) -> list[dict[str, object]]:
        """What bubblewrap has said so far."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._status_fd, _STATUS_BYTES):
                self._status += chunk
        rows = []
        for line in self._status.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    rows.append(row)
        return rows

    def close(self) -> None:
        """Let go of the status pipe."""
        self.handed_over()
        os.close(self._status_fd)


class Launcher:
    """One launcher process. ``way`` is how it mounts overlays (empty: not at all), ``reasons`` why not."""

    def __init__(self, program: str, point: str, trial: str, ways: Sequence[Way]) -> None:
        self.way = ""
        self.reasons: list[str] = []
        self._words = [os.path.abspath(sandbox_launcher.__file__), point, trial, program]
        self._ways = marshal.dumps(list(ways)).hex()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._children: dict[int, Child] = {}
        self._unsent: deque[tuple[int, array[int]]] = deque()
        self._is_writing = False
        self._count = 0

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked for processes."""
        return self._socket is not None

    async def start(self) -> None:
        """Start it, and find out how it mounts. Raises UNAVAILABLE."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script, *rest = self._words
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(its.fileno()), *rest, self._ways],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        except OSError as err:
            ours.close()
            raise ReflowError(Kind.UNAVAILABLE, "sandbox", sys.executable, cause=str(err)) from err
        finally:
            its.close()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            message = await asyncio.wait_for(loop.sock_recv(ours, 1 << 16), _START_S)
        except BaseException:
            ours.close()
            self.kill()
            raise
        if not message:
            ours.close()
            raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause=f"its launcher ended: {self._last_words()}")
        self.way, self.reasons = marshal.loads(message)
        self._socket = ours
        loop.add_reader(ours, self._receive)

    def launch(self, job: Job, stdout_fd: int, stderr_fd: int) -> Child:
        """Ask for a process. Raises UNAVAILABLE when the launcher is gone."""
        if self._socket is None:
            raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause="its launcher has ended")
        child = Child()
        self._count = number = self._count % 0x7FFFFFFF + 1
        job_fd = os.memfd_create("job", os.MFD_CLOEXEC)
        try:
            _write_all(job_fd, marshal.dumps(job))
            # Copies, because they may have to wait.
            fds = [os.dup(fd) for fd in (stdout_fd, stderr_fd, child.status_writer_fd)]
        except BaseException:
            os.close(job_fd)
            child.close()
            raise
        child.handed_over()
        self._children[number] = child
        self._unsent.append((number, array("i", [job_fd, *fds])))
        self._send()
        return child

    def _send(self) -> None:
        """Send what has not been sent, as far as it can be without waiting."""
        while self._unsent and self._socket is not None:
            number, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
            try:
                self._socket.sendmsg([REQUEST.pack(number)], rights)
            except BlockingIOError:
                self._write_later(True)
                return
            except OSError:
                self._lost()
                return
            self._unsent.popleft()
            _close_all(fds)
        self._write_later(False)

    def _write_later(self, is_wanted: bool) -> None:
        if is_wanted == self._is_writing or self._socket is None:
            return
        loop = asyncio.get_running_loop()
        self._is_writing = is_wanted
        if is_wanted:
            loop.add_writer(self._socket, self._send)
        else:
            loop.remove_writer(self._socket)

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(64)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            self._note(*ANSWER.unpack(message))

    def _note(self, number: int, pid: int, status: int) -> None:
        child = self._children[number]
        if pid == 0:
            del self._children[number]
            error = ReflowError(Kind.UNAVAILABLE, "sandbox", cause=f"cannot fork: {os.strerror(status).lower()}")
            _fail(child, error)
        elif status == -1:
            child.started.set_result(pid)
        else:
            del self._children[number]
            child.ended.set_result(status)

    def _lost(self) -> None:
        """The launcher is gone, and with it all that it started."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        self._write_later(False)
        self._socket.close()
        self._socket = None
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        self.kill()
        children, self._children = list(self._children.values()), {}
        error = ReflowError(Kind.UNAVAILABLE, "sandbox", cause=f"its launcher ended: {self._last_words()}")
        for child in children:
            _fail(child, error)

    def kill(self) -> None:
        """End it, and all that it has started, at once. May be called from any thread."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """End it; nothing that it started may be left. Blocks for a moment."""
        if self._socket is not None:
            self._lost()
        if self._process is not None:
            self.kill()
            self._last_words()

    def _last_words(self) -> str:
        """What it printed before it ended; it ends within a moment."""
        assert self._process is not None
        if self._process.stderr is None or self._process.stderr.closed:
            return ""
        try:
            _, text = self._process.communicate(timeout=_KILL_S)
        except subprocess.TimeoutExpired:
            return "it hangs"
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._process.returncode}"


def _fail(child: Child, error: ReflowError) -> None:
    for future in (child.started, child.ended):
        if not future.done():
            future.set_exception(error)
            future.exception()  # it may be that nobody asks


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


