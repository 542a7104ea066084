"""The launcher (`launcher`) as an executor sees it: asks it for commands, and learns of their end."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from reflow.core.errors import Kind, ReflowError
from reflow.executor.launcher import ALL, ANSWER, GO, REQUEST, START

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CODE = """import sys
sys.path[:0] = [sys.argv.pop(1)]
from {} import main
main(sys.argv[1:])"""
_ANSWER_BYTES = 1 << 12
_INLINE_BYTES = 1 << 16
_LAST_WORDS_S = 5.0

JobT = TypeVar("JobT", bound=tuple[Any, ...])


class Child:
    """A command that was asked for. ``pid`` is known when it has run for a moment, or has ended.

    ``ended`` gives its wait status, and ``note`` has then what the launcher says besides. It may not be
    cancelled: shield it. It fails when output was lost.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.note = b""
        self.started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def status(self) -> int:
        """How it ended.

        Raises UNAVAILABLE when the launcher is gone, OSError when it was not started or its output was lost.
        """
        return await asyncio.shield(self.ended)


class Launcher(Generic[JobT]):
    """One launcher process; it is started when it is needed first, and again when it was killed.

    ``words`` are what its program is to know, ``keep_fds`` descriptors that it is to have open.
    """

    module = "reflow.executor.launcher"
    """What it runs."""

    def __init__(self, words: Sequence[str], keep_fds: Sequence[int] = ()) -> None:
        self._words = words
        self._keep_fds = keep_fds
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._children: dict[int, Child] = {}
        self._unsent: deque[tuple[bytes, array[int]]] = deque()
        self._is_writing = False
        self._count = 0

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked for commands."""
        return self._socket is not None

    def launch(self, job: JobT, fds: Sequence[int]) -> Child:
        """Ask for a command; ``fds`` are its lock. Raises UNAVAILABLE, or OSError."""
        if self._socket is None:
            self._start()
        copies = array("i")  # because they may have to wait
        data = marshal.dumps(job)
        try:
            copies.extend([os.dup(fd) for fd in fds])
            if len(data) > _INLINE_BYTES:
                copies.append(os.memfd_create("job", os.MFD_CLOEXEC))
                _write_all(copies[-1], data)
                data = b""
        except BaseException:
            _close_all(copies)
            raise
        self._count = self._count % 0x7FFFFFFF + 1
        child = self._children[self._count] = Child(self._count)
        self._post(REQUEST.pack(child.number, START) + data, copies)
        return child

    def go(self, child: Child) -> None:
        """Let a command run that was started and held, unless it has ended."""
        if self._socket is not None and not child.ended.done():
            self._post(REQUEST.pack(child.number, GO), array("i"))

    def signal(self, child: Child, number: int) -> None:
        """Send a signal to a command's process group, unless it has ended."""
        if self._socket is not None and not child.ended.done():
            self._post(REQUEST.pack(child.number, number), array("i"))

    def _start(self) -> None:
        self._listen(self._spawned())

    def _spawned(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        fds = [str(fd) for fd in (its.fileno(), *self._keep_fds)]
        words = program_words(self.module, [*fds, *self._words])
        try:
            with its:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[its.fileno(), *self._keep_fds],
                    start_new_session=True,
                )
        except OSError as err:
            ours.close()
            raise ReflowError(Kind.UNAVAILABLE, "launcher", sys.executable, cause=str(err)) from err
        return ours

    def _listen(self, connection: socket.socket) -> None:
        self._socket = connection
        asyncio.get_running_loop().add_reader(connection, self._receive)

    def _post(self, message: bytes, fds: array[int]) -> None:
        self._unsent.append((message, fds))
        self._send()

    def _send(self) -> None:
        """Send what has not been sent, as far as it can be without waiting."""
        while self._unsent and self._socket is not None:
            message, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
            try:
                self._socket.sendmsg([message], rights)
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
                message = self._socket.recv(_ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            number, pid, status = ANSWER.unpack_from(message)
            self._note(number, pid, status, message[ANSWER.size :])

    def _note(self, number: int, pid: int, status: int, note: bytes) -> None:
        child = self._children[number]
        if pid and not child.pid:
            child.pid = pid
            child.started.set_result(pid)
        if status == -1:
            return
        del self._children[number]
        if pid or not status:
            child.note, _, code = note.partition(b" ")
            if code:
                _fail(child, OSError(int(code), os.strerror(int(code))))
            else:
                child.ended.set_result(status)
        else:
            _fail(child, self._error(status, note.decode("utf-8", "replace")))

    def _error(self, code: int, text: str) -> Exception:
        """Why a command could not be started."""
        return OSError(code, text)

    def _lost(self) -> None:
        """The launcher is gone; nobody knows any more how its commands end."""
        self._let_go()
        children, self._children = list(self._children.values()), {}
        cause = f"the launcher ended while the command ran: {self._last_words()}"
        _kill_groups(children)
        for child in children:
            _fail(child, ReflowError(Kind.UNAVAILABLE, "exec", cause=cause))

    def _let_go(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._write_later(False)
        self._socket.close()
        self._socket = None
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()

    def kill(self) -> None:
        """Kill all that it has started, at once. May be called from any thread."""
        connection, process = self._socket, self._process
        if connection is None or process is None:
            return
        try:
            connection.send(REQUEST.pack(ALL, signal.SIGKILL))
        except OSError:  # it does not listen
            process.kill()
            _kill_groups(list(self._children.values()))

    def close(self) -> None:
        """End it; nothing that it started may be left. Blocks for a moment."""
        if self._socket is not None:
            self.kill()
            self._let_go()
        self._last_words()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._last_words()

    def _last_words(self) -> str:
        """What it printed before it ended; it ends within a moment."""
        if self._process is None or self._process.stderr is None or self._process.stderr.closed:
            return ""
        try:
            _, text = self._process.communicate(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "it hangs"
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._process.returncode}"


def program_words(module: str, words: Sequence[str]) -> list[str]:
    """The command line of a small process of ours, that runs ``main`` of a module and imports little else."""
    return [sys.executable, "-I", "-S", "-c", _CODE.format(module), _PACKAGES, *words]


def _kill_groups(children: Sequence[Child]) -> None:
    for child in children:
        if child.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)


def _fail(child: Child, error: Exception) -> None:
    for future in (child.started, child.ended):
        if not future.done():
            future.set_exception(error)
            future.exception()  # it may be that nobody asks


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
