"""Starts the commands of one executor, sees them end, and outlives the run that asked for them.

It is a small process in a session of its own. When its run is killed (its socket closes), what runs goes on,
and how it ends is recorded, for the next run to find; then the launcher ends too. It imports next to nothing:
it has to start at once, and to stay small.

Requests (SEQPACKET): two numbers, which exec and what to do: 0 to start it (a marshalled job follows, or is
the last of the descriptors when it is long), a signal to send it to the exec's process group. Exec 0 stands
for all. The lock of the exec's directory comes along with a start. A job is (argv, environment,
working directory, the log files of stdout and stderr).

Answers: (number, pid, -1) when a command has run for a moment, (number, pid, wait status) when it has ended,
(number, 0, errno) and a text when it could not be started. Words may follow the second: what a launcher of
another sort has to say, and the errno when output was lost.

What commands print comes here through pipes (`logstream`), so they are not held up by a run that is busy,
stopped or dead. Nobody reads for the first moment: most of them are over then, and all is taken over at once.

The lock is held as long as the command runs, whoever asked for it, and its file tells the pid and how the
command ended. Such a record is one small write in place: whoever is killed, it is there or it is not, and it
takes no space on a disk that is full.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import marshal
import os
import select
import signal
import struct
import time

from reflow.executor.logstream import LogStream

REQUEST = struct.Struct("=ii")
ANSWER = struct.Struct("=iii")

START = 0
"""What to do with an exec: start it. Positive numbers are signals."""

GO = -1
"""What to do with an exec that was started and held: let its command run."""

ALL = 0
"""The number that stands for all execs."""

# The file of a lock: exec id, owner's pid, executor, pid, ending; each but the first padded to 10 characters.
PID_OFFSET = 64 + 1 + 10 + 1 + 10 + 1
ENDING_OFFSET = PID_OFFSET + 10 + 1

Job = tuple[list[bytes], dict[bytes, bytes], bytes, list[bytes]]

# Python ignores some, and SIGCHLD has a handler.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD)

_MAX_MESSAGE_BYTES = 1 << 17
_MAX_DESCRIPTORS = 16
_ANNOUNCE_S = 0.02
_LINGER_S = 0.2
_LINGER_PAUSE_S = 0.005
_UMASK = 0o022


class Running:
    """A command that runs: the number that its run knows it by, its lock, its output, when to tell its pid.

    When it has ended, ``status`` is its wait status; what is left of its process group may take until
    ``deadline_s`` to go.
    """

    __slots__ = ("deadline_s", "lock_fd", "number", "pid", "status", "streams", "told_s")

    def __init__(self, number: int, pid: int, lock_fd: int, streams: list[LogStream]) -> None:
        self.number = number
        self.pid = pid
        self.lock_fd = lock_fd
        self.streams = streams
        self.status = -1
        self.deadline_s = 0.0
        self.tell_later()

    def tell_later(self) -> None:
        """Have its pid told when it has run for a moment from now."""
        self.told_s = time.monotonic() + _ANNOUNCE_S


class Server:
    """Serves one executor."""

    def __init__(self, socket_fd: int, program: bytes) -> None:
        self._null_fd = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(socket_fd, False)
        self._socket: _socket.socket | None = _socket.socket(fileno=socket_fd)
        self._program = program
        self._running: dict[int, Running] = {}
        self._untold: dict[int, Running] = {}
        self._lingering: dict[int, Running] = {}
        self._streams: dict[int, LogStream] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Start what is asked for and see it end, until the run is gone and nothing runs any more."""
        wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_reader, False)
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        assert self._socket is not None
        socket_fd = self._socket.fileno()
        self._poll.register(socket_fd, select.POLLIN)
        self._poll.register(wake_reader, select.POLLIN)
        while True:
            timeout_ms = self._due()
            if self._socket is None and not self._running:
                return
            for fd, _ in self._poll.poll(timeout_ms):
                if fd == wake_reader:
                    os.read(wake_reader, 4096)
                    self._reap()
                elif fd != socket_fd or self._socket is None:
                    self._take_output(fd)
                elif not self._receive(self._socket):
                    self._orphaned()

    def _due(self) -> int | None:
        """Do what is due; the milliseconds until more is. Most commands end before their pid is told."""
        if not self._untold and not self._lingering:
            return None
        now_s = time.monotonic()
        for running in list(self._lingering.values()):
            if not _is_group(running.pid) or now_s >= running.deadline_s:
                self._end(running)
        timeout_ms = int(_LINGER_PAUSE_S * 1000) if self._lingering else None
        for pid, running in list(self._untold.items()):
            if now_s < running.told_s:
                return timeout_ms or int((running.told_s - now_s) * 1000) + 1
            del self._untold[pid]
            self._watch_output(running)
            self._answer(ANSWER.pack(running.number, pid, -1))
        return timeout_ms

    def _watch_output(self, running: Running) -> None:
        for stream in running.streams:
            self._streams[stream.reader_fd] = stream
            self._poll.register(stream.reader_fd, select.POLLIN)

    def _take_output(self, fd: int) -> None:
        stream = self._streams.get(fd)
        if stream is not None and stream.take() < 0:
            self._unwatch(stream)

    def _unwatch(self, stream: LogStream) -> None:
        if self._streams.pop(stream.reader_fd, None) is not None:
            self._poll.unregister(stream.reader_fd)

    def _receive(self, socket: _socket.socket) -> bool:
        fds = array.array("i")
        space = _socket.CMSG_SPACE(_MAX_DESCRIPTORS * fds.itemsize)
        try:
            message, parts, _, _ = socket.recvmsg(_MAX_MESSAGE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        if not message:
            return False
        for _, _, data in parts:
            fds.frombytes(data)
        number, action = REQUEST.unpack_from(message)
        if action == START:
            self._start_or_say(number, message[REQUEST.size :], list(fds))
        elif action == GO:
            self._go(number)
        elif number == ALL:
            for each in self._running.values():
                self._signal(each.number, action)
        else:
            self._signal(number, action)
        return True

    def _start_or_say(self, number: int, data: bytes, fds: list[int]) -> None:
        try:
            if not data:
                job_fd = fds.pop()
                data = os.pread(job_fd, os.fstat(job_fd).st_size, 0)
                os.close(job_fd)
            self._start(number, marshal.loads(data), fds)
        except (OSError, ValueError) as err:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
            code, text = getattr(err, "errno", None), getattr(err, "strerror", None)
            self._answer(
                ANSWER.pack(number, 0, code or errno.EIO) + (text or str(err)).encode("utf-8", "replace")
            )

    def _start(self, number: int, job: Job, fds: list[int]) -> None:
        argv, environment, directory, logs = job
        (lock_fd,) = fds
        os.chdir(directory)
        try:
            pid, streams = self._spawn(argv, environment, logs)
        finally:
            os.chdir("/")
        self._note_start(Running(number, pid, lock_fd, streams))

    def _note_start(self, running: Running) -> None:
        record(running.lock_fd, PID_OFFSET, b"%d" % running.pid)
        self._running[running.pid] = self._untold[running.pid] = running

    def _spawn(
        self, argv: list[bytes], environment: dict[bytes, bytes], logs: list[bytes], *others: int
    ) -> tuple[int, list[LogStream]]:
        """Start a process in a session of its own; its pid and its output.

        ``others`` become its descriptors 3, …
        """
        streams: list[LogStream] = []
        try:
            for path in logs:
                streams.append(LogStream(path))
            fds = (self._null_fd, *[stream.writer_fd for stream in streams], *others)
            pid = self._posix_spawn(argv, environment, fds)
        except (OSError, ValueError):
            for stream in streams:
                stream.close()
            raise
        for stream in streams:
            stream.handed_over()
        return pid, streams

    def _posix_spawn(self, argv: list[bytes], environment: dict[bytes, bytes], fds: tuple[int, ...]) -> int:
        return os.posix_spawn(
            self._program,
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)],
            setsid=True,
            setsigmask=(),
            setsigdef=_IGNORED,
        )

    def _reap(self) -> None:
        while len(self._running) > len(self._lingering):
            # Until it is reaped its number is not given to anybody else.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            kill_group(found.si_pid, signal.SIGKILL)
            pid, status = os.waitpid(found.si_pid, 0)
            running = self._running.get(pid)
            if running is None:
                continue
            running.status = status
            self._untold.pop(pid, None)
            if _is_group(pid):
                running.deadline_s = time.monotonic() + _LINGER_S
                self._lingering[pid] = running
            else:
                self._end(running)

    def _end(self, running: Running) -> None:
        """Record how a command has ended, give its lock back and tell its run."""
        self._lingering.pop(running.pid, None)
        del self._running[running.pid]
        if os.WIFEXITED(running.status):  # one that was killed has not finished
            record(running.lock_fd, ENDING_OFFSET, b"exit %d" % os.WEXITSTATUS(running.status))
        self._let_go(running)

    def _let_go(self, running: Running, word: bytes = b"") -> None:
        """Put its output away, give its lock back and tell its run, with a word, how it ended."""
        code = b""
        for stream in running.streams:
            self._unwatch(stream)
            stream.end()
            if stream.error is not None:
                code = b"%d" % (stream.error.errno or errno.EIO)
        os.close(running.lock_fd)
        answer = ANSWER.pack(running.number, running.pid, running.status)
        self._answer(answer + b"%b %b" % (word, code) if word or code else answer)

    def _go(self, number: int) -> None:
        """Let a command run. None is held here."""

    def _signal(self, number: int, signal_number: int) -> None:
        for running in self._running.values():
            if running.number == number and running.status == -1:
                kill_group(running.pid, signal_number)

    def _orphaned(self) -> None:
        """The run is gone; what runs goes on."""
        if self._socket is not None:
            self._poll.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _answer(self, message: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(message)
        except OSError:
            self._orphaned()


def record(lock_fd: int, offset: int, text: bytes) -> None:
    """Write a field of a lock's file."""
    with contextlib.suppress(OSError):
        os.pwrite(lock_fd, text.ljust(10), offset)


def kill_group(pid: int, number: int) -> None:
    """Send a signal to a process group, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _is_group(pid: int) -> bool:
    """Tell whether something is left of a process group."""
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def prepare(keep_fds: list[str]) -> None:
    """Become what all that we start inherits from; ``keep_fds`` are open as long as we live."""
    for word in keep_fds:
        os.set_inheritable(int(word), False)
    os.umask(_UMASK)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")


def main(words: list[str]) -> None:
    """Serve. Words: the socket's descriptor, descriptors to keep open, and the program to start."""
    socket_fd, *keep_fds, program = words
    prepare(keep_fds)
    Server(int(socket_fd), os.fsencode(program)).serve()
