"""Enters the sandbox of an exec and runs bash in it, as ``docker exec`` does in a container.

This is a process of its own: a process with threads cannot change its namespaces. It has the terminal of the
user; bash has one that is made in the sandbox, so that its keys, also Ctrl-C, go to what runs in the
foreground there, and nobody in the sandbox reaches the user's. Without a terminal bash has our stdin, stdout
and stderr.

Words: the descriptors of a marshalled `Job`, and of a pipe that takes the reason why it did not work. What
opens processes and namespaces, and makes sure that they are the right ones, is `sandboxshell`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import marshal
import os
import select
import signal
import termios
from typing import NamedTuple, NoReturn

from reflow.executor.terminal import raw_terminal

CLONE_NEWIPC = 0x08000000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWUSER = 0x10000000

_NS_GET_USERNS = 0xB701
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION = 0x20080522
_CAPABILITY_BITS = 64

_CHUNK_BYTES = 1 << 16
_PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_CANNOT_START = 127

_libc = ctypes.CDLL(None, use_errno=True)


class Rights(NamedTuple):
    """Capabilities as bits, and whether programs may get more of them."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new: bool


class Job(NamedTuple):
    """What to run, as whom, and where: descriptors of namespaces and of the root directory."""

    namespaces: dict[str, int]
    root_fd: int
    uid: int
    gid: int
    groups: list[int]
    rights: tuple[int, int, int, int, int, bool]
    directory: bytes
    argv: list[bytes]
    environment: dict[bytes, bytes]
    is_terminal: bool


def enter(job: Job) -> int:
    """Go where the sandbox is; what we start from now on is in it.

    Returns the descriptor of the user namespace that the shell is to enter as well, or -1. Raises OSError.
    """
    if os.geteuid() == 0:
        _become(job.uid, job.gid, job.groups)
    # Nobody in there may look at us, nor get at our program, before bash has taken our place.
    _prctl(_PR_SET_DUMPABLE, 0)
    mounts_fd = job.namespaces["mnt"]
    # Bubblewrap mounts in one user namespace, and may run the command in another one within that.
    owner_fd = fcntl.ioctl(mounts_fd, _NS_GET_USERNS)
    user_fd = job.namespaces["user"]
    if not _is_same(owner_fd, "/proc/self/ns/user"):
        _setns(owner_fd, CLONE_NEWUSER)
    is_nested = not _is_same(owner_fd, user_fd)
    _setns(mounts_fd, CLONE_NEWNS)
    _setns(job.namespaces["ipc"], CLONE_NEWIPC)
    _setns(job.namespaces["pid"], CLONE_NEWPID)
    os.fchdir(job.root_fd)
    os.chroot(".")
    os.chdir(job.directory)
    return user_fd if is_nested else -1


def _become(uid: int, gid: int, groups: list[int]) -> None:
    with contextlib.suppress(PermissionError):  # root of a user namespace may not
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _is_same(one: int, other: int | str) -> bool:
    """Tell whether two namespaces are one."""
    return os.path.samestat(os.fstat(one), os.stat(other))


def start(job: Job, error_fd: int, slave_fd: int, user_fd: int) -> int:
    """Start bash in the sandbox; its pid. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            _become_shell(job, slave_fd, user_fd)
        except OSError as err:
            _report(error_fd, err)
        finally:
            os._exit(_CANNOT_START)
    return pid


def _become_shell(job: Job, slave_fd: int, user_fd: int) -> NoReturn:
    if slave_fd >= 0:
        os.login_tty(slave_fd)
    else:
        os.setsid()
    if user_fd >= 0:
        _setns(user_fd, CLONE_NEWUSER)
    _keep_only(Rights(*job.rights))
    for number in (*_PASSED_ON, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGWINCH):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.execve(job.argv[0], job.argv, job.environment)


def _keep_only(rights: Rights) -> None:
    """Give away what the exec has not either."""
    for bit in range(_CAPABILITY_BITS):
        if not rights.bounding >> bit & 1:
            # Numbers that the kernel does not know are refused.
            _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(bit), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (rights.effective, rights.permitted, rights.inheritable)
    data = (ctypes.c_uint32 * 6)(*[each & 0xFFFFFFFF for each in sets], *[each >> 32 for each in sets])
    if _libc.capset(header, data):
        _fail("capset")
    for bit in range(_CAPABILITY_BITS):
        if rights.ambient >> bit & 1:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bit)
    if rights.no_new:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _setns(fd: int, kind: int) -> None:
    if _libc.setns(fd, kind):
        _fail("setns")


def _prctl(option: int, *values: int) -> None:
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *words):
        _fail("prctl")


def _fail(what: str) -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code).lower()}")


def _report(error_fd: int, err: OSError) -> None:
    text = (err.strerror or str(err)).lower()
    if err.filename is not None:
        text = f"{os.fsdecode(err.filename)}: {text}"
    os.write(error_fd, text.encode("utf-8", "replace"))


class Relay:
    """Passes on what is typed to a shell, and what it prints, until it ends."""

    def __init__(self, master_fd: int) -> None:
        self._master_fd = master_fd
        self._is_open = True
        self._typed = b""
        self._wake_fd, writer_fd = os.pipe()
        for fd in (self._wake_fd, writer_fd, master_fd):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGWINCH, lambda number, frame: self.resize())

    def resize(self) -> None:
        """Give the shell's terminal the size of the user's."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._master_fd, termios.TIOCSWINSZ, size)

    def serve(self, pid: int) -> int:
        """Do so; the wait status of the shell."""
        readers = [self._wake_fd, self._master_fd, 0]
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                while self._is_open and self._print():
                    pass
                return status
            wanted = [fd for fd in readers if fd != 0 or not self._typed]
            ready, writable, _ = select.select(wanted, [self._master_fd] if self._typed else [], [])
            if self._wake_fd in ready:
                os.read(self._wake_fd, _CHUNK_BYTES)
            if self._master_fd in ready and not self._print() and not self._is_open:
                # The terminal has no user any more: only the end of the shell is to come.
                readers = [self._wake_fd]
                self._typed = b""
            elif writable:
                self._type()
            if 0 in ready and self._is_open:
                self._typed = _read(0)
                if not self._typed:
                    readers.remove(0)

    def _print(self) -> bool:
        """Pass on what was printed; False when there is nothing."""
        try:
            data = os.read(self._master_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the terminal open
            data = b""
        self._is_open = bool(data)
        _write(1, data)
        return bool(data)

    def _type(self) -> None:
        try:
            self._typed = self._typed[os.write(self._master_fd, self._typed) :]
        except BlockingIOError:
            return
        except OSError:
            self._typed = b""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK_BYTES)
    except OSError:
        return b""


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody sees it any more
        while data:
            data = data[os.write(fd, data) :]


def run(job: Job, error_fd: int) -> int:
    """Run bash until it ends; its wait status. Raises OSError."""
    user_fd = enter(job)
    master_fd, slave_fd = os.openpty() if job.is_terminal else (-1, -1)
    pid = start(job, error_fd, slave_fd, user_fd)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: _pass_on(pid, number))
    _prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    if not job.is_terminal:
        return os.waitpid(pid, 0)[1]
    os.close(slave_fd)
    relay = Relay(master_fd)
    relay.resize()
    with raw_terminal(0):
        return relay.serve(pid)


def _pass_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main(words: list[str]) -> None:
    """Run the shell, and end as it does."""
    job_fd, error_fd = int(words[0]), int(words[1])
    job = Job(*marshal.loads(os.pread(job_fd, os.fstat(job_fd).st_size, 0)))
    for fd in (job_fd, error_fd, job.root_fd, *job.namespaces.values()):
        os.set_inheritable(fd, False)
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    try:
        status = os.waitstatus_to_exitcode(run(job, error_fd))
    except OSError as err:
        _report(error_fd, err)
        status = 1
    # At once: what Python would do at its end may need files, and ours are not where they were.
    os._exit(128 - status if status < 0 else status)
