"""Execs in sandboxes made by bubblewrap, of images that need no daemon.

An exec sees what it would see in a container of the Docker daemon (`sandbox_words`), so results are shared
with those. Its root file system is an overlay: the exec's inputs and a thin layer (`sandbox_image`) over the
unpacked image; what is written goes to the exec's directory and never reaches the image or the objects that
are linked as inputs. Overlays are mounted, and bubblewrap is started, by a launcher process
(`sandbox_launcher`), which takes all that it started with it when it ends.

Where the kernel has no overlays for us, the root file system is read-only, with /var/tmp and /run of the
exec's own, and inputs are protected by their mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.disk.blocking import to_the_end
from reflow.executor import credentials, machine, proctree, staging
from reflow.executor.execdir import ExecDir, remove_tree
from reflow.executor.layout import os_error
from reflow.executor.local import LocalExecutor
from reflow.executor.localexec import LocalExec
from reflow.executor.outcome import Ending
from reflow.executor.sandbox_cells import HOME
from reflow.executor.sandbox_image import BASH, SandboxImage
from reflow.executor.sandbox_launcher import HOLD_FD, STATUS_FD, Job
from reflow.executor.sandbox_mounts import Overlay, Way
from reflow.executor.sandbox_roots import Root, Roots
from reflow.executor.sandbox_spawn import Exit, Launcher, OverlayError
from reflow.executor.sandbox_trial import Trial, try_bubblewrap
from reflow.executor.sandbox_words import (
    Bound,
    Program,
    User,
    environment,
    read_only_root,
    sandbox_words,
    writable_root,
)
from reflow.executor.script import arg_words
from reflow.executor.spawn import Child
from reflow.executor.treemeter import TreeMeter
from reflow.executor.view import Layers, View
from reflow.imagestore import Image
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

# What an overlay has on top is plain files and whiteouts, which we read (in user namespaces always). It is of
# no use after a power cut, so nothing of it is written out in a hurry.
_WAYS_OF_ROOT: tuple[Way, ...] = (
    ("root", False, "index=off,redirect_dir=off,metacopy=off,volatile"),
    ("root-synchronous", False, "index=off,redirect_dir=off,metacopy=off"),
)
_WAYS_OF_ALL: tuple[Way, ...] = (
    ("user", True, "index=off,userxattr,volatile"),
    ("user-synchronous", True, "index=off,userxattr"),
)


class Images(Protocol):
    """Where images come from: an `reflow.imagestore.store.ImageStore`."""

    def ensure(
        self, reference: str, original: str = "", *, progress: Progress | None = None
    ) -> Awaitable[Image]:
        """Make an image available."""
        ...

    def close(self) -> Awaitable[None]:
        """Let go of all images."""
        ...


class _Setup(NamedTuple):
    """How one exec is run: the root file system that it has for itself, and the job for the launcher."""

    launcher: Launcher
    root: Root | None
    job: Job

    @property
    def is_held(self) -> bool:
        """Whether the command waits for the word to go."""
        return self.job[5]


class SandboxExecutor(LocalExecutor):
    """Runs execs in sandboxes. It closes ``images`` when it is closed."""

    name = "sandbox"
    prints_to_final = True

    def __init__(
        self,
        localdir: Path,
        repository: LocalFiles,
        locator: InputLocator,
        *,
        images: Images,
        hard_memory: bool = False,
        try_program: Callable[[], Trial] = try_bubblewrap,
    ) -> None:
        super().__init__(localdir, repository, locator, hard_memory=hard_memory)
        self._store = images
        self._try_program = try_program
        self._trial = Trial(Program(""), User(0, 0, False), "not tried yet")
        self._launcher: Launcher | None = None
        self._starting = asyncio.Lock()
        self._has_overlay = True
        self._has_root_overlay = True
        self._roots = Roots(self.layout)
        self._resources = Resources()
        self._known: dict[str, SandboxImage] = {}
        self._images: dict[Digest, SandboxImage] = {}
        self._children: dict[Digest, tuple[Launcher, Child]] = {}
        self._meter = TreeMeter(self.name, self._files, self._kill_quietly)

    @property
    def resources(self) -> Resources:
        """All that this machine has."""
        return self._resources

    async def _open(self) -> None:
        self._resources = machine.local_resources(self.layout.localdir)
        self._trial = await self._files(self._try_program)
        if self._trial.trouble:
            raise ReflowError(Kind.PRECONDITION, "executor", "sandbox", cause=self._trial.trouble)
        await self._living_launcher()

    async def _living_launcher(self) -> Launcher:
        """The launcher; a new one when there is none, or it has died."""
        async with self._starting:
            if self._launcher is None or not self._launcher.is_alive:
                self._launcher = await self._started_launcher()
            return self._launcher

    async def _started_launcher(self) -> Launcher:
        self._roots.forget()
        ways = _WAYS_OF_ALL if os.geteuid() else (*_WAYS_OF_ROOT, *_WAYS_OF_ALL)
        trial = self.layout.new_path("trial")
        for name, _, _ in ways:
            for directory in ("lower", "upper", "work", "point"):
                os.makedirs(f"{trial}/{name}/{directory}")
        launcher = Launcher(self._trial.program.path, trial, ways, [self.layout.own_lock_fd])
        await to_the_end(launcher.start())
        if not launcher.way:
            self._has_overlay = self._has_root_overlay = False
        self._discard(trial)
        return launcher

    def _discard(self, directory: str) -> None:
        """Delete a directory, off the way of execs."""
        self.layout.discard(directory)
        self._start_sweep()

    async def _close(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
        await self._store.close()

    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        """End bubblewraps whose launcher was killed when they were just starting."""
        await self._files(proctree.kill_with_words, [f"{directory.path}/return" for directory in leftovers])

    def kill_now(self) -> None:
        """Kill everything at once."""
        if self._launcher is not None:
            self._launcher.kill()
        adopted = [running for running in list(self._execs.values()) if running.is_adopted]
        proctree.kill_with_words([f"{self.layout.path(each.config)}/return" for each in adopted])

    # One exec.

    async def _prepare(self, running: LocalExec, progress: Progress | None) -> None:
        config = running.config
        shown = config.original_image or config.image
        if config.needs_docker_access:
            detail = f"image {shown} asks for the docker daemon ($docker): use -executor docker"
            raise ReflowError(Kind.NOT_SUPPORTED, "exec", running.id, cause=detail)
        image = await self._store.ensure(config.image, config.original_image, progress=progress)
        known = self._known.get(image.root)
        if known is None:
            known = SandboxImage(image, self.layout.new_path("layer"))
            known.prepare(shown)
            self._known[image.root] = known
        self._images[running.id] = known

    def _staging(self, config: ExecConfig, directory: str) -> staging.Staging:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{directory}/arg")
        copies = staging.is_light(config)
        trees = self.trees if self._has_overlay else None
        return staging.Staging(
            directory, "", self._locator, staging.Style.BIND, copies_objects=copies, trees=trees
        )

    def _view(self, directory: str, staged: staging.Staged) -> tuple[View, str]:
        roots = {
            "/return": Layers([f"{directory}/return"]),
            "/arg": Layers([*([staged.upper] if staged.upper else []), f"{directory}/arg", *staged.lowers]),
            "/tmp": Layers([f"{directory}/tmp"]),
        }
        return View(roots, {f"/arg/{place}": path for place, path in staged.foreign.items()}), "/return"

    async def _execute(self, running: LocalExec, directory: ExecDir, staged: staging.Staged) -> Ending:
        try:
            done = await self._executed(running, directory, staged)
        finally:
            self._images.pop(running.id, None)
        if not done.has_run:
            raise self._failure_of_bubblewrap(running)
        return Ending(done.code, running.oom)

    async def _executed(self, running: LocalExec, directory: ExecDir, staged: staging.Staged) -> Exit:
        setup = await self._set_up(running, directory.path, staged)
        try:
            return await self._sandboxed(running, directory, setup)
        except OverlayError:
            self._do_without(setup)
        return await self._executed(running, directory, staged)

    def _do_without(self, setup: _Setup) -> None:
        """An overlay cannot be mounted: use no such ones from now on."""
        if setup.root is not None and self._has_root_overlay:
            self._has_root_overlay = False
        else:
            self._has_overlay = False

    async def _sandboxed(self, running: LocalExec, directory: ExecDir, setup: _Setup) -> Exit:
        child: Child | None = None
        try:
            child = setup.launcher.launch(setup.job, [directory.lock_fd])
            self._children[running.id] = setup.launcher, child
            if setup.is_held:
                await running.room.enter()
                setup.launcher.go(child)
            running.launched()
            child.started.add_done_callback(partial(_note_pid, running))
            return await setup.launcher.exit(child)
        except (asyncio.CancelledError, ReflowError):
            if child is not None:
                setup.launcher.signal(child, signal.SIGKILL)
                await to_the_end(_ended(child))
            raise
        except OSError as err:
            raise os_error("exec", running.log_files["stderr"], err) from err
        finally:
            self._children.pop(running.id, None)
            self._meter.forget(running.pid)
            self._release(setup)

    def _release(self, setup: _Setup) -> None:
        """Let the next exec have the root file system, or get rid of it."""
        root = setup.root
        if root is None or (setup.launcher is self._launcher and self._roots.give_back(root)):
            return

        async def dispose() -> None:
            await setup.launcher.drop(root.point)
            self._discard(root.directory)

        self._own(dispose())

    async def _set_up(self, running: LocalExec, directory: str, staged: staging.Staged) -> _Setup:
        """Decide how an exec is run, and make what that takes."""
        launcher = await self._living_launcher()
        if "\0" in staged.command:
            raise ReflowError(Kind.INVALID, "exec", running.id, cause="command: embedded null byte")
        image, program = self._images[running.id], self._trial.program
        overlays: list[Overlay] = []
        unmounts: list[bytes] = []
        arg = f"{directory}/arg"
        staged.upper = ""
        if not self._has_overlay and staged.lowers:
            await self._files(staged.do_without_layers, arg)
        if self._has_overlay and staged.has_files and not staging.is_light(running.config):
            overlays.append(_arg_overlay(directory, staged.lowers))
            arg = os.fsdecode(overlays[0][0])
            unmounts.append(overlays[0][0])
            staged.upper = f"{directory}/upper"
        root: Root | None = None
        new_root: Overlay | None = None
        has_devices = self._has_root_overlay and launcher.has_devices
        if self._has_root_overlay:
            root = self._roots.take(image)
            if root is None:
                root = self._roots.make(image)
                new_root = root.overlay
            root_words = writable_root(root.point, has_devices=has_devices)
        else:
            root_words = read_only_root(program, image.root, await self._files(image.full_etc))
        bounds = [
            Bound(f"{directory}/tmp", "/tmp"),
            Bound(f"{directory}/return", "/return"),
            Bound(arg, "/arg"),
        ]
        bounds += [Bound(path, f"/arg/{place}", is_read_only=True) for place, path in staged.foreign.items()]
        command = [BASH, "-e", "-l", "-o", "pipefail", *arg_words(directory, staged.command)]
        user = self._user(launcher)
        is_held = not running.room.is_held
        words = sandbox_words(
            program,
            root_words,
            user,
            bounds,
            image.working_dir,
            command,
            status_fd=STATUS_FD,
            hold_fd=HOLD_FD if is_held else -1,
            has_devices=has_devices,
        )
        argv = os.fsencode("\0".join(words)).split(b"\0")  # quicker than one by one
        logs = self.logs.fresh(running.id)
        cell = HOME if root is None else os.fsencode(root.point)
        job = (cell, new_root, overlays, argv, _environment(running, image), is_held, unmounts, logs)
        return _Setup(launcher, root, job)

    def _user(self, launcher: Launcher) -> User:
        """Who commands run as: root of the launcher's user namespace becomes an ordinary user in another."""
        if not launcher.way:
            return self._trial.user
        return self._trial.user._replace(needs_namespace=os.geteuid() != 0)

    def _failure_of_bubblewrap(self, running: LocalExec) -> ReflowError:
        """Say why a command was never run."""
        text = _last_line(running.log_files["stderr"])
        if "execvp" in text:
            detail = f"{BASH} of the image cannot be run: {text}"
            return ReflowError(Kind.INVALID, "exec", running.id, cause=detail)
        return ReflowError(Kind.UNAVAILABLE, "exec", running.id, cause=f"the sandbox cannot be made: {text}")

    def tap(self, running: LocalExec) -> None:
        """What a command prints goes to its log files at once anyway."""

    async def command_lines(self, running: LocalExec) -> list[str]:
        """The command lines of an exec's processes."""
        return await self._files(_command_lines, running.pid)

    async def _sample(self, running: list[LocalExec]) -> None:
        await self._meter.sample(running, is_hard=self.hard_memory)

    def _kill_quietly(self, running: LocalExec) -> None:
        found = self._children.get(running.id)
        if found is not None:
            launcher, child = found
            launcher.signal(child, signal.SIGKILL)
        elif running.is_adopted:
            self._own(self._files(proctree.kill_with_words, [f"{self.layout.path(running.config)}/return"]))


async def _ended(child: Child) -> None:
    with contextlib.suppress(ReflowError, OverlayError):
        await child.status()


def _note_pid(running: LocalExec, started: asyncio.Future[int]) -> None:
    if not started.cancelled() and started.exception() is None:
        running.note_pid(started.result())


def _environment(running: LocalExec, image: SandboxImage) -> dict[bytes, bytes]:
    ours = {"tmp": "/tmp", "TMPDIR": "/tmp", "HOME": "/tmp"}
    if not running.config.output_is_dir:
        ours["out"] = "/return/default"
    if running.config.needs_aws_creds:
        ours.update(credentials.from_environment(running.id))
    return environment(image.env, ours.items())


def _arg_overlay(directory: str, lowers: Sequence[str]) -> Overlay:
    """An overlay that keeps what a command does to its inputs from the objects that are linked there."""
    for name in ("upper", "work", "merged"):
        path = f"{directory}/{name}"
        remove_tree(path)  # of a try with other overlays
        os.mkdir(path)
    layers = [os.fsencode(layer) for layer in (f"{directory}/arg", *lowers)]
    return os.fsencode(f"{directory}/merged"), os.fsencode(directory), layers


def _command_lines(monitor: int) -> list[str]:
    """The command lines of the processes in the sandbox: bubblewrap itself is outside of it."""
    family = proctree.tree(monitor, proctree.scan())
    return proctree.command_lines(sorted(process.pid for process in family if process.pid != monitor))


def _last_line(path: str) -> str:
    try:
        lines = Path(path).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "bubblewrap failed"
    return lines[-1] if lines else "bubblewrap failed"


if TYPE_CHECKING:
    from reflow.pool import Executor

    _: type[Executor] = SandboxExecutor
