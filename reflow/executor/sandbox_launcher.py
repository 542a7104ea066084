"""The sandbox's launcher: a small process that starts bubblewrap, over and over.

It is run as a program of its own (``python -I -S sandbox_launcher.py …``), so it imports nothing of ours and
little else: each exec is a fork of it, which mounts the exec's overlay in a mount namespace of its own and
becomes bubblewrap. (A fork of a program with threads and hundreds of megabytes would be slow and unsafe; a
shell and its mounts would cost several more programs.) Where overlays need it, it first gets a user namespace.

Arguments: the descriptor of a socket (SEQPACKET), the directory to mount overlays on, a directory to try
overlays in, the program bwrap, and the ways to mount that may be tried, in order: (name, whether it needs a
user namespace, options of the mount), marshalled, in hexadecimal digits.

It says first which of them worked: a marshalled pair, its name (empty: none) and the reasons why others did
not. Then requests come: 4 bytes, a number, with four descriptors: the job, and what will be stdout, stderr and
the status of bubblewrap. A job is a marshalled tuple: directory, lower layers (none: no overlay), argv,
environment; ``%d`` in argv is the status descriptor. It answers (number, pid, -1) once there is a process, and
(number, pid, wait status) when it has ended; pid 0 means that there is none, with an errno. A job that fails
before it is bubblewrap says why on its status descriptor: ``launch: `` and the reason. When the socket closes,
all ends.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import ctypes
import errno
import marshal
import os
import resource
import select
import signal
import struct
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
PR_SET_PDEATHSIG = 1

ANSWER = struct.Struct("=iii")
REQUEST = struct.Struct("=i")
LAUNCH_ERROR = b"launch: "

Way = tuple[str, bool, str]
Job = tuple[bytes, list[bytes], list[bytes], dict[bytes, bytes]]

_FAILED = 125

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Get namespaces of our own."""
    if _libc.unshare(flags):
        _fail("unshare")


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None) -> None:
    """Mount something."""
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        _fail(f"mount {(kind or target).decode()}")


def _fail(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code).lower()}")


def mount_overlay(point: bytes, directory: bytes, lowers: list[bytes], options: str) -> None:
    """Mount an overlay on ``point``: ``upper`` and ``work`` of ``directory`` over other directories."""
    # Paths are given by descriptor or relative to the working directory: they may hold any character.
    os.chdir(directory)
    descriptors = [os.open(lower, os.O_PATH | os.O_DIRECTORY) for lower in lowers]
    layers = ":".join([f"/proc/self/fd/{fd}" for fd in descriptors])
    mount(b"overlay", point, b"overlay", 0, f"lowerdir={layers},upperdir=upper,workdir=work,{options}".encode())
    for fd in descriptors:
        os.close(fd)


def enter(needs_user_namespace: bool) -> None:
    """Get a mount namespace, and the right to mount in it."""
    if needs_user_namespace:
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    else:
        unshare(CLONE_NEWNS)
    # What is mounted elsewhere later is seen here too, and nothing that is mounted here is seen elsewhere.
    mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)


def try_way(way: Way, point: bytes, directory: bytes) -> str:
    """Try, in a child, whether overlays can be mounted in a way; the reason why not."""
    _, needs_user_namespace, options = way
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter(needs_user_namespace)
            unshare(CLONE_NEWNS)
            mount_overlay(point, directory, [directory + b"/lower"], options)
            os.mkdir(point + b"/written")
        except OSError as err:
            os.write(writer, str(err.strerror).encode("utf-8", "surrogateescape"))
        finally:
            os._exit(0)
    os.close(writer)
    reason = os.read(reader, 4096).decode("utf-8", "replace")
    os.close(reader)
    os.waitpid(pid, 0)
    return reason


class Launcher:
    """Serves one executor."""

    def __init__(self, socket_fd: int, point: bytes, program: bytes) -> None:
        self._socket = _socket.socket(fileno=socket_fd)
        os.set_inheritable(socket_fd, False)
        self._pid = os.getpid()
        self._point = point
        self._program = program
        self._options = ""
        self._null_fd = os.open(os.devnull, os.O_RDONLY)
        self._numbers: dict[int, int] = {}

    def choose(self, ways: list[Way], trial: bytes) -> None:
        """Take the first way to mount overlays that works, and say which."""
        reasons: list[str] = []
        for name, needs_user_namespace, options in ways:
            way = (name, needs_user_namespace, options)
            reason = try_way(way, self._point, trial + b"/" + name.encode())
            if not reason:
                enter(needs_user_namespace)
                self._options = options
                self._answer(marshal.dumps((name, reasons)))
                return
            reasons.append(f"{name}: {reason}")
        self._answer(marshal.dumps(("", reasons)))

    def serve(self) -> None:
        """Start what is asked for, and say what has ended, until nobody listens any more."""
        wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_reader, False)
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        poll.register(wake_reader, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wake_reader:
                    os.read(wake_reader, 4096)
                    self._reap()
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        fds = array.array("i")
        space = _socket.CMSG_SPACE(4 * fds.itemsize)
        message, parts, _, _ = self._socket.recvmsg(64, space, _socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        for _, _, data in parts:
            fds.frombytes(data)
        self._start(REQUEST.unpack(message)[0], *fds)
        for fd in fds:
            os.close(fd)
        return True

    def _start(self, number: int, job_fd: int, stdout_fd: int, stderr_fd: int, status_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError as err:
            self._answer(ANSWER.pack(number, 0, err.errno or errno.EAGAIN))
            return
        if pid == 0:
            self._become(job_fd, stdout_fd, stderr_fd, status_fd)
        self._numbers[pid] = number
        self._answer(ANSWER.pack(number, pid, -1))

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._answer(ANSWER.pack(self._numbers.pop(pid), pid, status))

    def _answer(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError:
            os._exit(0)  # nobody listens any more; what runs dies with us

    def _become(self, job_fd: int, stdout_fd: int, stderr_fd: int, status_fd: int) -> None:
        """Become bubblewrap. Does not return."""
        try:
            self._be_a_good_child()
            job: Job = marshal.loads(os.pread(job_fd, os.fstat(job_fd).st_size, 0))
            directory, lowers, argv, environment = job
            if lowers:
                unshare(CLONE_NEWNS)
                mount_overlay(self._point, directory, lowers, self._options)
            os.chdir("/")
            for target, fd in enumerate((self._null_fd, stdout_fd, stderr_fd)):
                os.dup2(fd, target)
            os.set_inheritable(status_fd, True)
            words = [b"%d" % status_fd if word == b"%d" else word for word in argv]
            os.execve(self._program, words, environment)
        except BaseException as err:  # noqa: BLE001  (this is another process: it has to end here)
            reason = err.strerror if isinstance(err, OSError) and err.strerror else repr(err)
            os.write(status_fd, LAUNCH_ERROR + reason.encode("utf-8", "surrogateescape"))
        finally:
            os._exit(_FAILED)

    def _be_a_good_child(self) -> None:
        """Die with the launcher, be the first to die when memory is short, and have ordinary signals."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(_FAILED)
        os.setsid()
        with contextlib.suppress(OSError):
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(fd, b"1000")
            os.close(fd)


def prepare() -> None:
    """What all that we start inherits: limits as high as they may be, umask, groups, no signals blocked."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (hard, hard))
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # root of a user namespace may not
            os.setgroups([os.getgid()])


def main(words: list[bytes]) -> None:
    """Serve."""
    socket_fd, point, trial, program, ways = words
    prepare()
    launcher = Launcher(int(socket_fd), point, program)
    launcher.choose(marshal.loads(bytes.fromhex(ways.decode())), trial)
    launcher.serve()


if __name__ == "__main__":
    main([os.fsencode(word) for word in sys.argv[1:]])
