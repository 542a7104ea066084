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
from reflow.executor.layout import os_error
from reflow.executor.sandbox_launcher import ANSWER, REQUEST, Job, Way

_STATUS_BYTES = 1 << 16
_START_S = 30.0
_KILL_S = 5.0
_KILL_PAUSE_S = 0.01


class OverlayError(Exception):
    """An overlay cannot be mounted; the text says why."""


class Exit(NamedTuple):
    """How a process ended, and whether it was the command that did (and not bubblewrap that failed)."""

    code: int
    has_run: bool


class Child:
    """A bubblewrap that was asked for. ``started`` gives its pid, ``ended`` its wait status.

    Its pid is told when it has run for a moment, or has ended. Neither of the two may be cancelled: await
    `exit`.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
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
        """How it ended. Raises OverlayError, or UNAVAILABLE when the launcher is gone."""
        status = os.waitstatus_to_exitcode(await asyncio.shield(self.ended))
        has_run = status < 0 or any("exit-code" in row for row in self._rows())
        return Exit(128 - status if status < 0 else status, has_run)

    async def kill(self) -> None:
        """Kill the command with all that it has started; returns when nothing of it is left."""
        with contextlib.suppress(ReflowError, TimeoutError):
            pid = await asyncio.wait_for(asyncio.shield(self.started), _KILL_S)
            loop = asyncio.get_running_loop()
            deadline_s = loop.time() + _KILL_S
            while not self.ended.done():
                # The first process of the namespace takes all others with it, and bubblewrap waits for it.
                # Early on there is none, or it is not known yet.
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

    def __init__(self, program: str, trial: str, ways: Sequence[Way]) -> None:
        self.way = ""
        self.reasons: list[str] = []
        self._words = [os.path.abspath(sandbox_launcher.__file__), trial, program]
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
        ours.setblocking(False)
        try:
            with its:
                self._process = self._spawned(its.fileno())
            loop = asyncio.get_running_loop()
            message = await asyncio.wait_for(loop.sock_recv(ours, _STATUS_BYTES), _START_S)
            if not message:
                detail = f"its launcher ended: {self._last_words()}"
                raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause=detail)
        except BaseException:
            ours.close()
            if self._process is not None:
                self._process.kill()
            raise
        self.way, self.reasons = marshal.loads(message)
        self._socket = ours
        loop.add_reader(ours, self._receive)

    def _spawned(self, socket_fd: int) -> subprocess.Popen[bytes]:
        script, *rest = self._words
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(socket_fd), *rest, self._ways],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[socket_fd],
                start_new_session=True,
            )
        except OSError as err:
            raise ReflowError(Kind.UNAVAILABLE, "sandbox", sys.executable, cause=str(err)) from err

    def launch(self, job: Job, stdout_fd: int, stderr_fd: int) -> Child:
        """Ask for a process. Raises UNAVAILABLE when the launcher is gone."""
        child = Child()
        try:
            self._request(child, job, [stdout_fd, stderr_fd, child.status_writer_fd])
        except BaseException:
            child.close()
            raise
        child.handed_over()
        return child

    async def unmount(self, points: Sequence[str]) -> None:
        """Unmount overlays; fine when the launcher is gone, and they with it."""
        child = Child()
        try:
            self._request(child, ([], [], {}, [os.fsencode(point) for point in points]), [])
            await asyncio.shield(child.ended)
        except ReflowError:
            return
        finally:
            child.close()

    def _request(self, child: Child, job: Job, fds: Sequence[int]) -> None:
        if self._socket is None:
            raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause="its launcher has ended")
        copies = array("i")  # because they may have to wait
        try:
            copies.append(os.memfd_create("job", os.MFD_CLOEXEC))
            _write_all(copies[0], marshal.dumps(job))
            for fd in fds:
                copies.append(os.dup(fd))
        except OSError as err:
            _close_all(copies)
            raise os_error("sandbox", "launcher", err) from err
        self._count = number = self._count % 0x7FFFFFFF + 1
        self._children[number] = child
        self._unsent.append((number, copies))
        self._send()

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
                message = self._socket.recv(_STATUS_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            number, pid, status = ANSWER.unpack_from(message)
            self._note(number, pid, status, message[ANSWER.size :].decode("utf-8", "replace"))

    def _note(self, number: int, pid: int, status: int, text: str) -> None:
        child = self._children[number]
        if pid and not child.pid:
            child.pid = pid
            child.started.set_result(pid)
        if status == -1:
            return
        del self._children[number]
        if pid or not status:
            child.ended.set_result(status)
        elif text.startswith("mount overlay"):
            _fail(child, OverlayError(text))
        else:
            _fail(child, ReflowError(Kind.UNAVAILABLE, "sandbox", cause=text))

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
        # First, so that nothing that is killed here looks as if it had ended by itself.
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # it may be gone by now
        for child in list(self._children.values()):
            if child.pid:
                _kill_group(child.pid)

    def close(self) -> None:
        """End it; nothing that it started may be left. Blocks for a moment."""
        if self._socket is not None:
            self._lost()
        elif self._process is not None:
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


def _fail(child: Child, error: Exception) -> None:
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
