"""The launcher (`launcher`) of sandboxes: it mounts overlays besides, and starts bubblewrap.

It has a mount namespace of its own, where only it and what it starts see the overlays; where mounting takes a
user namespace, it has that too. (Bubblewrap itself cannot mount overlays in the versions that many systems
have; a shell to do so would cost three more programs for each exec.)

Words: the descriptor of the socket, descriptors to keep open, a directory to try overlays in, the program
bwrap, and the ways to mount that may be tried, in order: (name, whether it needs a user namespace, options of
the mount), marshalled, in hexadecimal digits. It says first which of them worked: a marshalled pair, its name
(empty: none) and the reasons why others did not.

A job is a marshalled tuple: overlays to mount before, argv (empty: nothing is started) and environment,
overlays to unmount at the end, and the log files of stdout and stderr. An overlay to be mounted is (mount
point, a directory with ``upper`` and ``work``, lower layers); one to be unmounted, its mount point. `RAN`
follows an answer when the command has really run, and it was not bubblewrap that failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import marshal
import os
import resource
import signal
import time

from reflow.executor import launcher
from reflow.executor.launcher import ANSWER, ENDING_OFFSET, Running, Server, kill_group, record
from reflow.executor.logstream import LogStream

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MNT_DETACH = 2

STATUS_FD = 3
"""The descriptor on which bubblewrap says what it does."""

RAN = b"ran"
"""Follows the answer about a command that has run."""

Way = tuple[str, bool, str]
Overlay = tuple[bytes, bytes, list[bytes]]
Job = tuple[list[Overlay], list[bytes], dict[bytes, bytes], list[bytes], list[bytes]]

_UNSEEN_KINDS = (b"nsfs", b"devpts", b"mqueue", b"hugetlbfs", b"binfmt_misc", b"rpc_pipefs")
_UNSEEN_PLACES = (
    b"/var/lib/docker/",
    b"/var/lib/containers/",
    b"/run/docker/",
    b"/run/containerd/",
    b"/snap/",
)
_CHUNK_BYTES = 1 << 16
_KILL_S = 5.0
_KILL_PAUSE_S = 0.01

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


class Sandboxed(Running):
    """A bubblewrap that runs: also, what it says, and what is unmounted when it has ended."""

    __slots__ = ("doomed_s", "said", "status_fd", "unmounts")

    def __init__(self, number: int, pid: int, lock_fd: int, streams: list[LogStream], status_fd: int) -> None:
        super().__init__(number, pid, lock_fd, streams)
        self.status_fd = status_fd
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
        if STATUS_FD not in (socket_fd, self._null_fd):
            # So that no descriptor of a job gets this number.
            os.dup2(self._null_fd, STATUS_FD, inheritable=False)
        self._options = ""
        self._doomed: dict[int, Sandboxed] = {}

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

    def _start(self, number: int, job: Job, fds: list[int]) -> None:  # type: ignore[override]  # own jobs
        overlays, argv, environment, unmounts, logs = job
        mounted: list[bytes] = []
        try:
            for overlay in overlays:
                mount_overlay(overlay, self._options)
                mounted.append(overlay[0])
            if not argv:
                _unmount(unmounts)
                self._answer(ANSWER.pack(number, 0, 0))
                return
            running = self._started(number, argv, environment, logs, fds[0])
        except (OSError, ValueError):
            _unmount(mounted)
            raise
        running.unmounts = unmounts
        self._note_start(running)

    def _started(
        self,
        number: int,
        argv: list[bytes],
        environment: dict[bytes, bytes],
        logs: list[bytes],
        lock_fd: int,
    ) -> Sandboxed:
        status_fd, status_writer_fd = os.pipe()
        os.set_blocking(status_fd, False)
        try:
            pid, streams = self._spawn(argv, environment, logs, status_writer_fd)
        except (OSError, ValueError):
            os.close(status_fd)
            raise
        finally:
            os.close(status_writer_fd)
        return Sandboxed(number, pid, lock_fd, streams, status_fd)

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
                running.doomed_s = time.monotonic() + _KILL_S
                self._doomed[running.pid] = running

    def _end(self, running: Running) -> None:
        assert isinstance(running, Sandboxed)
        self._lingering.pop(running.pid, None)
        self._doomed.pop(running.pid, None)
        del self._running[running.pid]
        _unmount(running.unmounts)
        has_exited = os.WIFEXITED(running.status)
        has_run = not has_exited or any("exit-code" in row for row in running.rows())
        if has_exited and has_run:
            record(running.lock_fd, ENDING_OFFSET, b"exit %d" % os.WEXITSTATUS(running.status))
        os.close(running.status_fd)
        self._let_go(running, RAN if has_run else b"")


def _parent(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _unmount(points: list[bytes]) -> None:
    for point in points:
        if _libc.umount2(point, 0):
            _libc.umount2(point, MNT_DETACH)


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
