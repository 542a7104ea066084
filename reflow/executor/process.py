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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.executor import credentials, directspawn, machine, proctree, staging
from reflow.executor.directspawn import DirectSpawner
from reflow.executor.execdir import ExecDir, is_locked
from reflow.executor.launcher import Job
from reflow.executor.layout import os_error
from reflow.executor.local import LocalExecutor
from reflow.executor.localexec import LocalExec
from reflow.executor.outcome import Ending
from reflow.executor.script import is_short, write_script
from reflow.executor.spawn import Child, Launcher
from reflow.executor.treemeter import TreeMeter
from reflow.executor.view import Layers, View
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "TZ")
_PASSED_ON_PREFIXES = ("CONDA", "VIRTUAL_ENV", "LC_")

_MARK = os.fsencode(proctree.MARK)
_GRACE_S = 1.0


class ProcessExecutor(LocalExecutor):
    """Runs execs with this machine's own tools."""

    name = "process"
    prints_to_final = True

    def __init__(
        self,
        localdir: Path,
        repository: LocalFiles,
        locator: InputLocator,
        *,
        hard_memory: bool = False,
    ) -> None:
        super().__init__(localdir, repository, locator, hard_memory=hard_memory)
        self._spawner: Launcher[Job] | DirectSpawner | None = None
        self._environment: dict[bytes, bytes] = {}
        self._resources = Resources()
        self._has_run = False
        self._meter = TreeMeter(self.name, self._files, _kill)

    @property
    def resources(self) -> Resources:
        """All that this machine has."""
        return self._resources

    async def _open(self) -> None:
        bash = machine.find_program("bash")
        if bash is None:
            detail = "bash was not found on PATH, and execs are run by it"
            raise ReflowError(Kind.NOT_EXIST, "executor", "process", cause=detail)
        if directspawn.is_needed():
            self._spawner = DirectSpawner(bash)
        else:
            self._spawner = Launcher([bash])
        self._environment = _passed_on()
        self._resources = machine.local_resources(self.layout.localdir)
        _raise_limits()
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Inherited from a parent that ignores its children: exit codes would be lost.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    async def _close(self) -> None:
        if self._has_run:
            await self._files(self._kill_strays)
        if self._spawner is not None:
            self._spawner.close()

    def _kill_strays(self) -> None:
        """Kill what has left its session and outlived its exec, in directories that nobody has locked."""
        root = f"{self.layout.root}/execs/"
        strays = {path for path in proctree.marked_directories(root) if not is_locked(path)}
        proctree.kill_marked(strays)

    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        await self._files(proctree.kill_marked, [directory.path for directory in leftovers])

    def kill_now(self) -> None:
        """Kill all process groups at once."""
        if self._spawner is not None:
            self._spawner.kill()
        adopted = [running for running in list(self._execs.values()) if running.is_adopted]
        proctree.kill_marked([self.layout.path(each.config) for each in adopted])

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

    async def _execute(self, running: LocalExec, directory: ExecDir, staged: staging.Staged) -> Ending:
        await running.room.enter()
        child = self._launch(running, directory, staged.command)
        running.launched()
        child.started.add_done_callback(partial(_note_pid, running))
        self._has_run = True
        try:
            status = await child.status()
        except asyncio.CancelledError:
            await self._terminate(child)
            await self._files(proctree.kill_marked, [directory.path])
            raise
        except (ReflowError, OSError) as err:
            # Nobody has seen it end.
            await self._files(proctree.kill_marked, [directory.path])
            if isinstance(err, OSError):
                raise os_error("exec", running.log_files["stderr"], err) from err
            raise
        finally:
            self._meter.forget(running.pid)
        code = os.waitstatus_to_exitcode(status)
        oom = running.oom
        return Ending(128 - code, oom, -code) if code < 0 else Ending(code, oom)

    async def _terminate(self, child: Child) -> None:
        """Ask a process group to end, then make it."""
        assert self._spawner is not None
        self._spawner.signal(child, signal.SIGTERM)
        await asyncio.wait([child.ended], timeout=_GRACE_S)
        self._spawner.signal(child, signal.SIGKILL)
        await asyncio.wait([child.ended])

    def _launch(self, running: LocalExec, directory: ExecDir, command: str) -> Child:
        assert self._spawner is not None
        path = directory.path
        words = [b"bash", b"-e", b"-o", b"pipefail", b"-c", os.fsencode(command)]
        if b"\0" in words[-1]:
            raise ReflowError(Kind.INVALID, "exec", running.id, cause="command: embedded null byte")
        if not is_short(command):
            write_script(f"{path}/command", command)
            words[-2:] = [os.fsencode(f"{path}/command")]
        environment = self._environment_of(running, path)
        try:
            job = (words, environment, os.fsencode(f"{path}/tmp"), self.logs.fresh(running.id))
            return self._spawner.launch(job, [directory.lock_fd])
        except OSError as err:
            raise os_error("exec", running.id, err) from err

    def _environment_of(self, running: LocalExec, directory: str) -> dict[bytes, bytes]:
        environment = dict(self._environment)
        path = os.fsencode(directory)
        environment[b"HOME"] = environment[b"TMPDIR"] = environment[b"tmp"] = path + b"/tmp"
        environment[_MARK] = path
        if not running.config.output_is_dir:
            environment[b"out"] = path + b"/return/default"
        if running.config.needs_aws_creds:
            found = credentials.from_environment(running.id)
            environment.update({os.fsencode(name): os.fsencode(value) for name, value in found.items()})
        return environment

    def tap(self, running: LocalExec) -> None:
        """What a command prints goes to its log files at once anyway."""

    async def command_lines(self, running: LocalExec) -> list[str]:
        """The command lines of an exec's processes."""
        return await self._files(_command_lines, running.pid)

    async def _sample(self, running: list[LocalExec]) -> None:
        await self._meter.sample(running, is_hard=self.hard_memory)


def _kill(running: LocalExec) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def _passed_on() -> dict[bytes, bytes]:
    """What commands get of our own environment."""
    environment = {
        os.fsencode(name): os.fsencode(value)
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    environment.setdefault(b"PATH", os.fsencode(os.defpath))
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


def _note_pid(running: LocalExec, started: asyncio.Future[int]) -> None:
    if not started.cancelled() and started.exception() is None:
        running.note_pid(started.result())


if TYPE_CHECKING:
    from reflow.pool import Executor

    _: type[Executor] = ProcessExecutor
