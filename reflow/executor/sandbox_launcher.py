"""The sandbox's launcher: a small process that mounts overlays and starts bubblewrap, over and over.

It is run as a program of its own (``python -I -S sandbox_launcher.py …``), so it imports nothing of ours and
little else. It has a mount namespace of its own, where only it and what it starts see the overlays; where
mounting takes a user namespace, it has that too. (Bubblewrap itself cannot mount overlays in the versions
that many systems have; a shell to do so would cost three more programs for each exec.)

Arguments: the descriptor of a socket (SEQPACKET), a directory to try overlays in, the program bwrap, and the
ways to mount that may be tried, in order: (name, whether it needs a user namespace, options of the mount),
marshalled, in hexadecimal digits.

It says first which of them worked: a marshalled pair, its name (empty: none) and the reasons why others did
not. Then requests come: 4 bytes, a number, with the descriptor of a job, and three that will be stdout,
stderr and descriptor 3 of bubblewrap, if it is to be started. A job is a marshalled tuple: overlays to mount
before, argv (empty: nothing is started) and environment, overlays to unmount at the end. An overlay to be
mounted is (mount point, a directory with ``upper`` and ``work``, lower layers); one to be unmounted, its
mount point.

It answers (number, pid, -1) when a process has run for a moment, and (number, pid, wait status) when it has
ended; (number, 0, 0) when there was none to start. When something fails, what was mounted is unmounted, and
the answer is (number, 0, errno) with a text behind it. When the socket closes, all ends.
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
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MNT_DETACH = 2

ANSWER = struct.Struct("=iii")
REQUEST = struct.Struct("=i")
STATUS_FD = 3
"""The descriptor on which bubblewrap says what it does."""

Way = tuple[str, bool, str]
Overlay = tuple[bytes, bytes, list[bytes]]
Job = tuple[list[Overlay], list[bytes], dict[bytes, bytes], list[bytes]]

_UNSEEN_KINDS = (b"nsfs", b"devpts", b"mqueue", b"hugetlbfs", b"binfmt_misc", b"rpc_pipefs")
_UNSEEN_PLACES = (
    b"/var/lib/docker/",
    b"/var/lib/containers/",
    b"/run/docker/",
    b"/run/containerd/",
    b"/snap/",
)

_ANNOUNCE_S = 0.02

# Python ignores some; SIGINT is ignored by us, and SIGCHLD has a handler.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD)

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


def mount_overlay(overlay: Overlay, options: str) -> None:
    """Mount an overlay."""
    point, directory, lowers = overlay
    # Paths are given by descriptor or relative to the working directory: they may hold any character.
    os.chdir(directory)
    descriptors = [os.open(lower, os.O_PATH | os.O_DIRECTORY) for lower in lowers]
    layers = ":".join([f"/proc/self/fd/{fd}" for fd in descriptors])
    text = f"lowerdir={layers},upperdir=upper,workdir=work,{options}"
    try:
        mount(b"overlay", point, b"overlay", 0, text.encode())
    finally:
        os.chdir("/")
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
    _trim()


def _trim() -> None:
    """Unmount, for us only, what no sandbox shows: bubblewrap reads the list of all mounts many times."""
    with open("/proc/self/mountinfo", "rb") as file:
        rows = file.read().splitlines()
    for row in reversed(rows):
        fields = row.split(b" ")
        kind = fields[fields.index(b"-") + 1]
        if kind in _UNSEEN_KINDS or fields[4].startswith(_UNSEEN_PLACES):
            _libc.umount2(fields[4], MNT_DETACH)  # in a user namespace it may not be allowed


def try_way(way: Way, directory: bytes) -> str:
    """Try, in a child, whether overlays can be mounted in a way; the reason why not."""
    _, needs_user_namespace, options = way
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter(needs_user_namespace)
            unshare(CLONE_NEWNS)
            mount_overlay((directory + b"/point", directory, [directory + b"/lower"]), options)
            os.mkdir(directory + b"/point/written")
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

    def __init__(self, socket_fd: int, program: bytes) -> None:
        self._null_fd = os.open(os.devnull, os.O_RDONLY)
        if STATUS_FD not in (socket_fd, self._null_fd):
            # So that no descriptor of a job gets this number.
            os.dup2(self._null_fd, STATUS_FD, inheritable=False)
        os.set_inheritable(socket_fd, False)
        self._socket = _socket.socket(fileno=socket_fd)
        self._program = program
        self._options = ""
        self._running: dict[int, tuple[int, list[bytes]]] = {}
        self._unannounced: dict[int, float] = {}

    def choose(self, ways: list[Way], trial: bytes) -> None:
        """Take the first way to mount overlays that works, and say which."""
        reasons: list[str] = []
        for way in ways:
            name, needs_user_namespace, options = way
            reason = try_way(way, trial + b"/" + name.encode())
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
            for fd, _ in poll.poll(self._announce()):
                if fd == wake_reader:
                    os.read(wake_reader, 4096)
                    self._reap()
                elif not self._receive():
                    self.end()

    def _announce(self) -> int | None:
        """Say what has run for a moment; the milliseconds until there is more to say.

        Most commands are over before that: nobody is woken up for them.
        """
        now_s = time.monotonic()
        for pid, due_s in list(self._unannounced.items()):
            if now_s < due_s:
                return int((due_s - now_s) * 1000) + 1
            del self._unannounced[pid]
            self._answer(ANSWER.pack(self._running[pid][0], pid, -1))
        return None

    def end(self) -> None:
        """Kill all that runs, and end. Does not return."""
        # Those that are just starting do not know yet that they are to die with us.
        for pid in self._running:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)

    def _receive(self) -> bool:
        fds = array.array("i")
        space = _socket.CMSG_SPACE(4 * fds.itemsize)
        message, parts, _, _ = self._socket.recvmsg(64, space, _socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        for _, _, data in parts:
            fds.frombytes(data)
        (number,) = REQUEST.unpack(message)
        try:
            self._start(number, *fds)
        except (OSError, ValueError) as err:
            code, text = getattr(err, "errno", None), getattr(err, "strerror", None)
            self._answer(
                ANSWER.pack(number, 0, code or errno.EIO) + (text or str(err)).encode("utf-8", "replace")
            )
        for fd in fds:
            os.close(fd)
        return True

    def _start(self, number: int, job_fd: int, *fds: int) -> None:
        job: Job = marshal.loads(os.pread(job_fd, os.fstat(job_fd).st_size, 0))
        overlays, argv, environment, unmounts = job
        mounted: list[bytes] = []
        try:
            for overlay in overlays:
                mount_overlay(overlay, self._options)
                mounted.append(overlay[0])
            if not argv:
                _unmount(unmounts)
                self._answer(ANSWER.pack(number, 0, 0))
                return
            pid = self._spawn(argv, environment, *fds)
        except (OSError, ValueError):
            _unmount(mounted)
            raise
        self._running[pid] = (number, unmounts)
        self._unannounced[pid] = time.monotonic() + _ANNOUNCE_S

    def _spawn(
        self,
        argv: list[bytes],
        environment: dict[bytes, bytes],
        stdout_fd: int,
        stderr_fd: int,
        status_fd: int,
    ) -> int:
        return os.posix_spawn(
            self._program,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self._null_fd, 0),
                (os.POSIX_SPAWN_DUP2, stdout_fd, 1),
                (os.POSIX_SPAWN_DUP2, stderr_fd, 2),
                (os.POSIX_SPAWN_DUP2, status_fd, STATUS_FD),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_IGNORED,
        )

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number, unmounts = self._running.pop(pid)
            self._unannounced.pop(pid, None)
            _unmount(unmounts)
            self._answer(ANSWER.pack(number, pid, status))

    def _answer(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError:
            self.end()


def _unmount(points: list[bytes]) -> None:
    for point in points:
        if _libc.umount2(point, 0):
            _libc.umount2(point, MNT_DETACH)


def prepare() -> None:
    """What all that we start inherits: limits as high as they may be, umask, groups; it is killed first."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (hard, hard))
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # root of a user namespace may not
            os.setgroups([os.getgid()])


def main(words: list[bytes]) -> None:
    """Serve."""
    socket_fd, trial, program, ways = words
    prepare()
    launcher = Launcher(int(socket_fd), program)
    launcher.choose(marshal.loads(bytes.fromhex(ways.decode())), trial)
    launcher.serve()


if __name__ == "__main__":
    main([os.fsencode(word) for word in sys.argv[1:]])
