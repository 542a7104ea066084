"""Execs on this machine: which executor runs them, and the scheduler in front of it.

The executor is chosen when a run begins, because it decides about cache keys; it is started when there is
something to run: a run that finds everything in the cache needs neither a daemon nor its SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.resources import Resources
from reflow.disk.filesystem import translate_error
from reflow.executor.choose import choose_executor
from reflow.executor.journal import are_dead
from reflow.executor.machine import local_resources
from reflow.runtime.config import Config
from reflow.runtime.home import home
from reflow.runtime.log import Log
from reflow.runtime.remotetask import is_remote, run_remote
from reflow.runtime.request import RunRequest
from reflow.runtime.stores import Stores
from reflow.sched import Scheduler, Task, TaskOutcome

if TYPE_CHECKING:
    from reflow.eval import ImageResolver, KeyNamespace
    from reflow.executor.images import ImageDigests
    from reflow.executor.local import LocalExecutor
    from reflow.imagestore.store import ImageStore
    from reflow.sched.local import LocalScheduler

_HIDDEN = ".reflow"
_NOTE = "reflow-localdir.txt"
_NOTE_TEXT = """Reflow runs execs of this machine below .reflow in this directory:

.reflow/execs   directories of execs that run, and of those that failed lately
.reflow/logs    what execs wrote to stdout and stderr

All of it may be deleted while no run uses it.
"""
_UNAME = os.uname()
_PROCESS_PREFIX = f"process{_UNAME.sysname}{_UNAME.machine}".encode()


def process_key(key: Digest) -> Digest:
    """The key under which results of this machine's own tools are stored: images are no part of them."""
    return Digest(sha256(_PROCESS_PREFIX + key).digest())


def exec_dir(named: str) -> str:
    """Where execs are below a local directory.

    A directory that somebody named may hold things of their own: there we keep to one hidden directory.
    """
    path = os.path.abspath(named)
    return path if path.startswith(home() + os.sep) else os.path.join(path, _HIDDEN)


def _explain_directory(path: str) -> None:
    """Leave a note beside the hidden directory. Raises ReflowError when nothing can be written there."""
    if os.path.basename(path) != _HIDDEN:
        return
    note = os.path.join(os.path.dirname(path), _NOTE)
    try:
        os.makedirs(path, exist_ok=True)
        if not os.path.exists(note):
            with open(note, "w", encoding="utf-8") as stream:
                stream.write(_NOTE_TEXT)
    except OSError as err:
        raise translate_error(err, "localdir", os.path.dirname(path)) from err


class LocalCluster:
    """The machine that a run's execs run on. `choose` first; then it is a `Scheduler`."""

    def __init__(self, config: Config, request: RunRequest, stores: Stores, log: Log) -> None:
        self.local_dir = exec_dir(request.local_dir or config.local_dir)
        self.executor_name = ""
        self._wanted = request.executor or config.provider("executor")
        self._hard_memory = config.has_hard_memory
        self._is_dir_named = bool(request.local_dir)
        self._is_recovery_wanted = request.invalidate is None
        self._stores = stores
        self._log = log
        self._images: ImageDigests | None = None
        self._executor: LocalExecutor | None = None
        self._scheduler: LocalScheduler | None = None
        self._starting = asyncio.Lock()
        self._trouble: ReflowError | None = None
        self._resources: Resources | None = None

    async def choose(self, images: list[str]) -> None:
        """Choose the executor and say which and why. Raises ReflowError when a named one cannot be had."""
        if self._is_dir_named:
            _explain_directory(self.local_dir)
        _explain_directory(self.local_dir)
        choice = await choose_executor(self._wanted, images=images, missing=self._missing_images)
        self.executor_name = choice.name
        self._log.info(f"executor: {choice.name} ({choice.reason})")
        if choice.warning:
            self._log.info(f"warning: {choice.warning}")
        if choice.name == "process":
            await self._stores.keep_private()
        if choice.name in ("docker", "sandbox"):
            from reflow.executor.images import ImageDigests

            self._images = ImageDigests(Path(home()), self._log.info)

    async def _missing_images(self, images: Collection[str]) -> Mapping[str, str]:
        from reflow.executor.obtainable import missing_images

        store = self._image_store()
        try:
            return await missing_images(images, store)
        finally:
            await store.close()

    def _image_store(self) -> ImageStore:
        from reflow.imagestore.store import ImageStore

        config_digest = None if self._images is None else self._images.config_digest
        return ImageStore(f"{home()}/images", inform=self._log.info, config_digest=config_digest)

    @property
    def resolve_image(self) -> ImageResolver | None:
        """How images become names with digests for keys; None where images are ignored."""
        return None if self._images is None else self._images.resolve

    @property
    def key_namespace(self) -> KeyNamespace | None:
        """How keys are told from those of other executors; None where they are shared."""
        return process_key if self.executor_name == "process" else None

    @property
    def resources(self) -> Resources:
        """The most that any one task can get."""
        if self._scheduler is not None:
            return self._scheduler.resources
        if self._resources is None:
            self._resources = local_resources(self.local_dir)
        return self._resources

    async def run(self, task: Task) -> TaskOutcome:
        """Run a task to its end; the first one starts the executor."""
        if is_remote(task.config):
            return await run_remote(task, self._stores)
        if self._scheduler is None:
            async with self._starting:
                error = await self._start()
            if error is not None:
                return TaskOutcome(error=error)
        assert self._scheduler is not None
        error = self._scheduler.refusal(task)  # before its inputs are fetched
        if error is not None:
            return TaskOutcome(error=error)
        try:
            task.config = await self._stores.staged(task.config)
        except ReflowError as err:
            return TaskOutcome(error=err)
        return await self._scheduler.run(task)

    async def _start(self) -> ReflowError | None:
        """Get the executor ready, once; the error when that cannot be done."""
        if self._scheduler is None and self._trouble is None:
            from reflow.runtime.machineshare import open_ledger
            from reflow.sched.local import LocalScheduler

            try:
                self._executor = self._make_executor()
                self._executor.recovery.is_wanted = self._is_recovery_wanted
                self._executor.inform = self._log.info
                await self._executor.start()
            except ReflowError as err:
                self._trouble = err
            else:
                self._scheduler = LocalScheduler(self._executor, ledger=open_ledger(self.local_dir))
        return self._trouble

    def _make_executor(self) -> LocalExecutor:
        directory, stores = Path(self.local_dir), self._stores
        if self.executor_name == "docker":
            from reflow.executor.docker import DockerExecutor

            assert self._images is not None
            return DockerExecutor(
                directory,
                stores.repository,
                stores.inputs,
                hard_memory=self._hard_memory,
                config_digest=self._images.config_digest,
            )
        if self.executor_name == "sandbox":
            from reflow.executor.sandbox import SandboxExecutor

            return SandboxExecutor(
                directory,
                stores.repository,
                stores.inputs,
                images=self._image_store(),
                hard_memory=self._hard_memory,
            )
        from reflow.executor.process import ProcessExecutor

        return ProcessExecutor(directory, stores.repository, stores.inputs, hard_memory=self._hard_memory)

    async def close(self, *, kill: bool = False, settles: bool = True) -> None:
        """Stop; with ``kill``, end what runs. Unless it ``settles``, `settle` is called later."""
        if self._executor is not None:
            self._executor.keeps_results = not settles
        if self._scheduler is not None:
            await self._scheduler.close(kill=kill)
        elif self._executor is not None:
            await self._executor.close(kill=kill)

    async def settle(self) -> None:
        """All results are in the cache: what was noted for the case that we are killed may go.

        A run that had nothing to execute removes what killed ones have left, all the same.
        """
        if self._executor is None and are_dead(self.local_dir) and self.executor_name:
            with contextlib.suppress(ReflowError):
                executor = self._make_executor()
                await executor.start()
                await executor.close()
        elif self._executor is not None:
            self._executor.settle()

    def kill_now(self) -> None:
        """End what runs without waiting for it."""
        if self._executor is not None:
            self._executor.kill_now()


if TYPE_CHECKING:
    _: type[Scheduler] = LocalCluster
