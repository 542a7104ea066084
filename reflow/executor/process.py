"""Execs as processes of this machine.

A command runs as ``bash -e -o pipefail -c``, in a session of its own, with the caller's PATH and little else
of its environment; its directories are real paths below ``<localdir>/execs``. The image is ignored. What is
still there when bash has ended is killed, as the end of a container would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.executor import credentials, machine, proctree, staging
from reflow.executor.execdir import ExecDir, is_locked
from reflow.executor.layout import STREAMS, os_error
from reflow.executor.local import LocalExecutor
from reflow.executor.localexec import LocalExec
from reflow.executor.outcome import Ending
from reflow.executor.treemeter import TreeMeter
from reflow.executor.view import Layers, View
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "TZ")
_PASSED_ON_PREFIXES = ("CONDA", "VIRTUAL_ENV", "LC_")

_MAX_WORD_BYTES = 120_000
"""The kernel takes words of up to 128 KiB; a longer command is put into a file."""

_GRACE_S = 1.0
_GROUP_END_S = 0.2
_UMASK = 0o022


class ProcessExecutor(LocalExecutor):
    """Runs execs with this machine's own tools."""

    name = "process"

    def __init__(
        self,
        localdir: Path,
        repository: LocalFiles,
        locator: InputLocator,
        *,
        hard_memory: bool = False,
    ) -> None:
        super().__init__(localdir, repository, locator, hard_memory=hard_memory)
        self._bash = ""
        self._null_fd = -1
        self._environment: dict[str, str] = {}
        self._resources = Resources()
        self._has_run = False
        self._meter = TreeMeter(self.name, self._files, _kill)
        self._directories: dict[Digest, str] = {}

    @property
    def resources(self) -> Resources:
        """All that this machine has."""
        return self._resources

    async def _open(self) -> None:
        bash = machine.find_program("bash")
        if bash is None:
            detail = "bash was not found on PATH, and execs are run by it"
            raise ReflowError(Kind.NOT_EXIST, "executor", "process", cause=detail)
        self._bash = bash
        self._null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._environment = _passed_on()
        self._resources = machine.local_resources(self.layout.localdir)
        _raise_limits()
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Inherited from a parent that ignores its children: exit codes would be lost.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    async def _close(self) -> None:
        if self._has_run:
            await self._files(self._kill_strays)
        if self._null_fd >= 0:
            os.close(self._null_fd)
            self._null_fd = -1

    def _kill_strays(self) -> None:
        """Kill what has left its session and outlived its exec, in directories that nobody has locked."""
        root = f"{self.layout.root}/execs/"
        strays = {path for path in proctree.marked_directories(root) if not is_locked(path)}
        proctree.kill_marked(strays)

    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        await self._files(proctree.kill_marked, [directory.path for directory in leftovers])

    def kill_now(self) -> None:
        """Kill all process groups at once."""
        for running in list(self._execs.values()):
            if running.state == "running" and running.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(running.pid, signal.SIGKILL)

    async def _prepare(self, running: LocalExec, progress: Progress | None) -> None:
        """Nothing is needed; the docker daemon's socket, for those who ask for it, is where it always is."""

    def _staging(self, config: ExecConfig, directory: str) -> staging.Staging:
        return staging.Staging(directory, directory, self._locator, staging.Style.LINK)

    def _view(self, directory: str, staged: staging.Staged) -> tuple[View, str]:
        # The command may have asked for the real path of something.
        real = f"{self.layout.real_root}/execs/{os.path.basename(directory)}"
        roots = {
            f"{path}/{name}": Layers([f"{directory}/{name}"])
            for path in {directory: 0, real: 0}
            for name in ("return", "arg", "tmp")
        }
        return View(roots, {}, frozenset(staged.foreign.values())), f"{directory}/return"

    async def _execute(self, running: LocalExec, directory: str, staged: staging.Staged) -> Ending:
        running.log_files = self.logs.within(directory)
        self._directories[running.id] = directory
        child = self._spawn(running, directory, staged.command)
        running.launched(child.pid)
        self._has_run = True
        try:
            await _exited(child.pid)
        except asyncio.CancelledError:
            await _terminate(child.pid)
            await self._files(proctree.kill_marked, [directory])
            raise
        finally:
            status = _reap(child)
            self._meter.forget(child.pid)
            self._directories.pop(running.id, None)
        await _group_gone(child.pid)
        code = os.waitstatus_to_exitcode(status)
        oom = running.oom
        return Ending(128 - code, oom, -code) if code < 0 else Ending(code, oom)

    def _spawn(self, running: LocalExec, directory: str, command: str) -> subprocess.Popen[bytes]:
        words = ["bash", "-e", "-o", "pipefail", "-c", command]
        script = os.fsencode(command)
        if len(script) > _MAX_WORD_BYTES:
            with open(f"{directory}/command", "wb") as file:
                file.write(script)
            words[-2:] = [f"{directory}/command"]
        output_fds = []
        try:
            for stream in STREAMS:
                output_fds.append(self.logs.open(running.log_files[stream]))
            return subprocess.Popen(
                words,
                executable=self._bash,
                stdin=self._null_fd,
                stdout=output_fds[0],
                stderr=output_fds[1],
                cwd=f"{directory}/tmp",
                env=self._environment_of(running, directory),
                start_new_session=True,
                umask=_UMASK,
            )
        except ValueError as err:
            raise ReflowError(Kind.INVALID, "exec", running.id, cause=f"command: {err}") from err
        except OSError as err:
            raise os_error("exec", running.id, err) from err
        finally:
            for fd in output_fds:
                os.close(fd)

    def _environment_of(self, running: LocalExec, directory: str) -> dict[str, str]:
        environment = dict(self._environment)
        tmp = f"{directory}/tmp"
        environment.update(HOME=tmp, TMPDIR=tmp, tmp=tmp)
        environment[proctree.MARK] = directory
        if not running.config.output_is_dir:
            environment["out"] = f"{directory}/return/default"
        if running.config.needs_aws_creds:
            environment.update(credentials.from_environment(running.id))
        return environment

    def tap(self, running: LocalExec) -> None:
        """Let the output of a process that runs be followed by others, at its final place."""
        directory = self._directories.get(running.id)
        if directory is not None:
            self.logs.show(running.id, directory)

    async def command_lines(self, running: LocalExec) -> list[str]:
        """The command lines of an exec's processes."""
        return await self._files(_command_lines, running.pid)

    async def _sample(self, running: list[LocalExec]) -> None:
        for each in running:
            self.tap(each)
        await self._meter.sample(running, is_hard=self.hard_memory)


def _kill(running: LocalExec) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def _passed_on() -> dict[str, str]:
    """What commands get of our own environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    environment.setdefault("PATH", os.defpath)
    return environment


def _raise_limits() -> None:
    """Raise soft limits to the hard ones; commands inherit them. Core dumps stay as the user has them."""
    for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK"):
        limit = getattr(resource, name, None)
        if limit is None:
            continue
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (hard, hard))


def _command_lines(leader: int) -> list[str]:
    family = proctree.tree(leader, proctree.scan())
    return proctree.command_lines(sorted(process.pid for process in family))


async def _exited(pid: int) -> None:
    """Return when a child has ended; it is left to be reaped."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    if not hasattr(os, "pidfd_open"):
        await _exited_by_thread(pid, loop, ended)
        return
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, _note_end, ended)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def _exited_by_thread(pid: int, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    import threading

    def wait() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        loop.call_soon_threadsafe(_note_end, ended)

    threading.Thread(target=wait, daemon=True).start()
    await ended


def _note_end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


async def _terminate(pid: int) -> None:
    """Ask a process group to end, then make it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_exited(pid), _GRACE_S)
        os.killpg(pid, signal.SIGKILL)
    await _exited(pid)


def _reap(child: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the group and take the leader's exit status."""
    # Before the leader is reaped: until then its number is not given to anybody else.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return status


async def _group_gone(pid: int) -> None:
    """Wait, a little, until no process of the group is left that could still write."""
    deadline_s = time.monotonic() + _GROUP_END_S
    while time.monotonic() < deadline_s:
        try:
            os.killpg(pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        await asyncio.sleep(0.005)


if TYPE_CHECKING:
    from reflow.pool import Executor

    _: type[Executor] = ProcessExecutor
