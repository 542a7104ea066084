"""Execs as containers of the Docker daemon of this machine.

A command runs as ``bash -e -l -o pipefail -c`` in a container of its image, which sees its files as ``/arg``,
``/return`` and ``/tmp``. As root, ``/arg`` is an overlay: what the command writes never reaches the objects
that are linked below it. Other users cannot write to objects, which have mode 0444.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.disk.blocking import to_the_end
from reflow.disk.controlgroup import usable_cpus
from reflow.executor import (
    cgroup,
    docker_socket,
    docker_spec,
    docker_stream,
    execdir,
    machine,
    proctree,
    staging,
)
from reflow.executor.docker_api import Bind, ContainerSpec, DockerApi, Overlay
from reflow.executor.docker_image import DockerImages
from reflow.executor.docker_labels import DIRECTORY_LABEL, ID_LABEL, LOCALDIR_LABEL, directory_of
from reflow.executor.docker_pulse import Pulse
from reflow.executor.docker_tap import Taps
from reflow.executor.execdir import ExecDir
from reflow.executor.local import LocalExecutor
from reflow.executor.localexec import LocalExec
from reflow.executor.manifest import Manifest
from reflow.executor.outcome import Ending
from reflow.executor.script import arg_words
from reflow.executor.view import Layers, View
from reflow.imagestore.host import UnsupportedHostError, socket_path
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

HARD_LIMIT_SWAP_BYTES = 100 << 20
"""Swap that a container with a hard memory limit may use on top of it."""

_BASH = ("/bin/bash", "-e", "-l", "-o", "pipefail")
_SURVIVING_STATES = ("running", "paused", "exited")
_KILLED_CODES = (137, 143)
"""Exit codes of containers that were killed or stopped: nobody can tell then what they would have done."""

_KILL_TIMEOUT_S = 5.0
_SHOWN = 5
_RENAME_TRIES = 50
_RENAME_PAUSE_S = 0.1
_SOCKET = "/var/run/docker.sock"


class DockerExecutor(LocalExecutor):
    """Runs execs in containers.

    ``config_digest`` tells the id of the image that a name with a digest stands for, when that is known.
    """

    name = "docker"

    def __init__(
        self,
        localdir: Path,
        repository: LocalFiles,
        locator: InputLocator,
        *,
        hard_memory: bool = False,
        config_digest: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(localdir, repository, locator, hard_memory=hard_memory)
        try:
            self._socket = socket_path()
        except UnsupportedHostError as err:
            raise ReflowError(Kind.NOT_SUPPORTED, "executor", "docker", cause=str(err)) from err
        self._pulse = Pulse(self._socket, lambda: self.is_ending)
        self._api = DockerApi(self._socket, self._pulse)
        self._images = DockerImages(self._api, config_digest)
        self._resources = Resources()
        self._has_overlay = os.geteuid() == 0
        self._containers: dict[Digest, str] = {}
        self._names: dict[Digest, str] = {}
        self._meters: dict[Digest, cgroup.Meter] = {}
        self._taps = Taps(self._socket, self.logs, self._pulse)
        self._abandoned: set[str] = set()

    @property
    def resources(self) -> Resources:
        """All that the daemon's machine has."""
        return self._resources

    async def _open(self) -> None:
        trouble = await docker_socket.ping(self._socket, 10.0)
        if trouble:
            raise ReflowError(Kind.PRECONDITION, "executor", "docker", cause=trouble)
        info = await self._api.connect()
        cpus = min(int(info.get("NCPU") or 0) or usable_cpus(), usable_cpus())
        self._resources = machine.local_resources(
            self.layout.localdir, float(info.get("MemTotal") or 0), cpus
        )

    async def _close(self) -> None:
        if self._abandoned:
            left = _listed(sorted(self._abandoned))
            mend = "the next run here removes them, or docker rm -f"
            self.inform(f"docker at {self._socket} did not answer; containers may be left: {left}; {mend}")
        await self._api.close()
        self._taps.close()

    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        """Remove the containers of dead runs: those whose directory is nobody's."""
        if not leftovers:
            return
        paths = {directory.path for directory in leftovers}
        for row in await self._api.labelled([f"{LOCALDIR_LABEL}={self.layout.localdir}"]):
            if directory_of(row) in paths:
                await self._api.remove(row["Id"])

    async def _remove_unwanted(self) -> None:
        await self._pulse.ask()
        await super()._remove_unwanted()
        # Also those that had ended, and whose run was killed before they were gone.
        for row in await self._api.labelled([f"{LOCALDIR_LABEL}={self.layout.localdir}"]):
            await self._api.remove(row["Id"])
        self._abandoned.clear()

    def kill_now(self) -> None:
        """Kill all containers at once; those of a daemon that hangs stay."""
        if self._pulse.is_weak:
            return
        for container in list(self._containers.values()):
            try:
                docker_stream.kill(self._socket, container, _KILL_TIMEOUT_S)
            except TimeoutError:
                return  # it hangs
            except OSError:
                continue

    async def _prepare(self, running: LocalExec, progress: Progress | None) -> None:
        config = running.config
        if self._pulse.is_weak:
            await self._pulse.ask()
        self._names[running.id] = await self._images.ensure(config.image, config.original_image, progress)

    def _staging(self, config: ExecConfig, directory: str) -> staging.Staging:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{directory}/arg")
        trees = self.trees if self._has_overlay else None
        return staging.Staging(directory, "", self._locator, staging.Style.BIND, trees=trees)

    def _view(self, directory: str, staged: staging.Staged) -> tuple[View, str]:
        arg = [f"{directory}/arg", *staged.lowers]
        if os.path.isdir(f"{directory}/upper"):
            arg.insert(0, f"{directory}/upper")
        roots = {
            "/return": Layers([f"{directory}/return"]),
            "/arg": Layers(arg),
            "/tmp": Layers([f"{directory}/tmp"]),
        }
        return View(roots, {f"/arg/{place}": path for place, path in staged.foreign.items()}), "/return"

    async def _execute(self, running: LocalExec, directory: ExecDir, staged: staging.Staged) -> Ending:
        name = self._container_name(running.id, directory.path)
        try:
            container = await self._started(running, directory.path, staged, name)
        except BaseException:
            # By its name: whether it was made is not known when we were interrupted while making it.
            await to_the_end(self._give_up(name, directory.path))
            raise
        finally:
            self._names.pop(running.id, None)
        running.launched()
        return await self._ended(running, directory, container)

    async def _ended(self, running: LocalExec, directory: ExecDir, container: str) -> Ending:
        """Await the end of a container that runs, and record it."""
        try:
            self._containers[running.id] = container
            code = await self._wait(running, container)
            await self._collect_logs(running, container)
            ending = self._ending(running, code, (await self._api.inspect(container))["State"])
        except BaseException:
            await to_the_end(self._give_up(container, directory.path))
            raise
        finally:
            self._containers.pop(running.id, None)
            self._meters.pop(running.id, None)
            self._taps.forget(running.id)
        directory.note_ending(ending.code)
        self._own(self._removed(container))
        return ending

    async def _resume(self, running: LocalExec, directory: ExecDir, found: Manifest) -> Ending | None:
        if execdir.ending_of(directory.path) is not None:
            return await super()._resume(running, directory, found)
        rows = await self._survivors([directory.path])
        if not rows:
            return None
        container = rows[0]["Id"]
        state = (await self._api.inspect(container))["State"]
        was_killed = int(state.get("ExitCode") or 0) in _KILLED_CODES and not state.get("OOMKilled")
        if was_killed and not state.get("Running"):
            return None
        self._adopt(running, directory.path, found)
        return await self._ended(running, directory, container)

    async def _survivors(self, paths: Collection[str]) -> list[dict[str, Any]]:
        """The containers of these directories that run, or have ended."""
        rows = await self._api.labelled([f"{LOCALDIR_LABEL}={self.layout.localdir}"])
        return [row for row in rows if directory_of(row) in paths and row.get("State") in _SURVIVING_STATES]

    async def _running_in(self, paths: Sequence[str]) -> Collection[str]:
        return {directory_of(row) for row in await self._survivors(paths)}

    async def _started(self, running: LocalExec, directory: str, staged: staging.Staged, name: str) -> str:
        """Make and start the container. Where the daemon cannot mount an overlay, do without from then on."""
        spec = self._spec(running, directory, staged, name)
        try:
            container = await to_the_end(self._made(running, spec))
            await running.room.enter()
            await to_the_end(self._api.start(container))
        except ReflowError as err:
            if err.kind is Kind.CANCELED:
                raise
            if spec.overlay is None or "overlay" not in str(err):
                raise docker_spec.start_error(running, spec, err) from err
            self._has_overlay = False
            await self._api.remove(name)
            await self._files(docker_spec.remove_overlay, spec.overlay)
            await self._files(staged.do_without_layers, f"{directory}/arg")
            return await self._started(running, directory, staged, name)
        return container

    async def _made(self, running: LocalExec, spec: ContainerSpec) -> str:
        try:
            return await self._api.create(spec)
        except ReflowError as err:
            if err.kind is Kind.PRECONDITION:
                return await self._made_anew(spec)
            if err.kind is Kind.NOT_EXIST and "image" in str(err).lower():
                self._images.forget(running.config.image)
                config = running.config
                name = await self._images.ensure(config.image, config.original_image, None)
                return await self._api.create(spec._replace(image=name))
            raise

    async def _made_anew(self, spec: ContainerSpec) -> str:
        """Make a container in the place of one of that name: ours, or of a run that died, or about to go."""
        for _ in range(_RENAME_TRIES):
            await self._api.remove(spec.name)
            try:
                return await self._api.create(spec)
            except ReflowError as err:
                if err.kind is not Kind.PRECONDITION:
                    raise
            await asyncio.sleep(_RENAME_PAUSE_S)
        return await self._api.create(spec)

    def _spec(self, running: LocalExec, directory: str, staged: staging.Staged, name: str) -> ContainerSpec:
        config = running.config
        binds = [Bind(f"{directory}/tmp", "/tmp"), Bind(f"{directory}/return", "/return")]
        overlay: Overlay | None = None
        if self._has_overlay and staged.has_files:
            overlay = docker_spec.make_overlay(directory, staged.lowers)
        if overlay is None:
            binds.append(Bind(f"{directory}/arg", "/arg"))
        binds += docker_spec.foreign_binds(directory, staged)
        if config.needs_docker_access:
            binds.append(Bind(self._socket, _SOCKET))
        memory_bytes = int(config.resources.amount("mem")) if self.hard_memory else 0
        return ContainerSpec(
            name=name,
            image=self._names[running.id],
            entrypoint=[*_BASH, *arg_words(directory, staged.command, is_text=True)],
            environment=docker_spec.environment(running),
            labels={
                ID_LABEL: running.id.hex(),
                DIRECTORY_LABEL: directory,
                LOCALDIR_LABEL: self.layout.localdir,
            },
            binds=binds,
            overlay=overlay,
            memory_bytes=memory_bytes,
            swap_bytes=memory_bytes + HARD_LIMIT_SWAP_BYTES if memory_bytes else 0,
        )

    def _container_name(self, id: Digest, directory: str) -> str:
        return f"reflow-{self.id}-{id.hex()}-{Digest.of_text(directory).short}"

    async def _wait(self, running: LocalExec, container: str) -> int:
        """The exit code. A daemon that goes away has some time to come back with the container."""
        while True:
            try:
                return await self._pulse.watched(docker_socket.wait(self._socket, container))
            except OSError as err:
                gone = _went_away(running, err)
            try:
                await self._pulse.back()
                state = (await self._api.inspect(container))["State"]
            except ReflowError as err:
                raise gone from err
            if not state.get("Running"):
                # A daemon that goes down ends its containers, some of which make that look like success.
                raise gone

    async def _collect_logs(self, running: LocalExec, container: str) -> None:
        try:
            await self._taps.collect(running, container)
        except TimeoutError as err:
            raise _went_away(running, err) from err

    def tap(self, running: LocalExec) -> None:
        """See to it that what a container prints goes to its log files at once."""
        container = self._containers.get(running.id)
        if container is not None:
            self._taps.open(running, container)

    def _ending(self, running: LocalExec, code: int, state: dict[str, Any]) -> Ending:
        """How the container ended. Raises TEMPORARY when it has not.

        Source: local/docker.go, (*dockerExec).wait.
        """
        if state.get("Running"):
            detail = "container returned in running state; docker daemon likely shutting down"
            raise ReflowError(Kind.TEMPORARY, "exec", running.id, cause=detail)
        started_s, ended_s = (
            docker_spec.seconds(state.get("StartedAt")),
            docker_spec.seconds(state.get("FinishedAt")),
        )
        if started_s and ended_s > started_s:
            running.started_s, running.ended_s = started_s, ended_s
        return Ending(code or int(state.get("ExitCode") or 0), "docker" if state.get("OOMKilled") else "")

    async def _removed(self, container: str) -> None:
        """Remove a container that has ended, while others go on."""
        await to_the_end(self._discard(container))

    async def _give_up(self, container: str, directory: str) -> None:
        """End a container whose exec has come to nothing; what the daemon does not do is done here.

        One that was killed while it started a container may not know that something runs.
        """
        await self._discard(container)
        if not await self._files(proctree.kill_contained, f"{directory}/return", "/return"):
            self._abandoned.add(container)

    async def _discard(self, container: str) -> None:
        """Kill and remove a container; when nobody answers it is found later, and named when all ends."""
        try:
            await self._pulse.ask()
            await self._api.remove(container)
        except ReflowError:
            self._abandoned.add(container)

    async def command_lines(self, running: LocalExec) -> list[str]:
        """The command lines of an exec's processes."""
        container = self._containers.get(running.id)
        if container is None:
            return []
        try:
            return await self._api.command_lines(container)
        except ReflowError:
            return []  # it has just ended

    async def _sample(self, running: list[LocalExec]) -> None:
        for each in running:
            self.tap(each)
            meter = self._meters.get(each.id) or await self._meter(each)
            usage = None if meter is None else await self._files(meter.read)
            if usage is None or each.state != "running":
                continue
            now_s = time.time()
            each.stats.observe("mem", usage.memory_bytes, now_s)
            if usage.cpus is not None:
                each.stats.observe("cpu", usage.cpus, now_s)

    async def _meter(self, running: LocalExec) -> cgroup.Meter | None:
        container = self._containers.get(running.id)
        if container is None:
            return None
        pid = int((await self._api.inspect(container))["State"].get("Pid") or 0)
        if not pid or running.state != "running":
            return None
        running.pids.add(pid)
        meter = await self._files(cgroup.meter_of, pid)
        if meter is not None:
            self._meters[running.id] = meter
        return meter


def _listed(containers: Sequence[str]) -> str:
    """Some of them; our names as they are, ids as the docker command shows them."""
    shown = [each if each.startswith("reflow-") else each[:12] for each in containers[:_SHOWN]]
    more = len(containers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _went_away(running: LocalExec, err: OSError) -> ReflowError:
    detail = f"the docker daemon went away while the command ran: {err}"
    return ReflowError(Kind.UNAVAILABLE, "exec", running.id, cause=detail)


if TYPE_CHECKING:
    from reflow.pool import Executor

    _: type[Executor] = DockerExecutor
