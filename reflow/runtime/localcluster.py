"""Execs on this machine: which executor runs them, and the scheduler in front of it."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.runtime.config import Config, not_supported
from reflow.runtime.log import Log
from reflow.runtime.request import RunRequest
from reflow.runtime.stores import Stores
from reflow.sched.local import LocalScheduler

if TYPE_CHECKING:
    from reflow.eval import ImageResolver, KeyNamespace
    from reflow.executor.local import LocalExecutor


class LocalCluster:
    """The executor and the scheduler of one run; `start` first."""

    def __init__(self, config: Config, request: RunRequest, stores: Stores, log: Log) -> None:
        self.local_dir = os.path.abspath(request.local_dir or config.local_dir)
        self._config = config
        self._request = request
        self._stores = stores
        self._log = log
        self._executor: LocalExecutor | None = None
        self._scheduler: LocalScheduler | None = None

    async def start(self) -> None:
        """Choose the executor, say so, and get it ready. Raises ReflowError."""
        from reflow.executor.process import ProcessExecutor

        self._executor = ProcessExecutor(
            Path(self.local_dir),
            self._stores.repository,
            self._stores.inputs,
            hard_memory=self._config.has_hard_memory,
        )
        await self._executor.start()
        self._scheduler = LocalScheduler(self._executor)

    @property
    def scheduler(self) -> LocalScheduler:
        """The scheduler; only after `start`."""
        assert self._scheduler is not None, "not started"
        return self._scheduler

    @property
    def resolve_image(self) -> ImageResolver | None:
        """How images become names with digests for keys; None where images are ignored."""
        return None

    @property
    def key_namespace(self) -> KeyNamespace | None:
        """How keys are told from those of other executors; None where they are shared."""
        return process_key

    async def close(self, *, kill: bool) -> None:
        """Stop; with ``kill``, end what runs."""
        if self._scheduler is not None:
            await self._scheduler.close(kill=kill)

    def kill_now(self) -> None:
        """End what runs without waiting for it."""
        if self._executor is not None:
            self._executor.kill_now()


def process_key(key: Digest) -> Digest:
    """The key under which results of this machine's own tools are stored: images are no part of them."""
    return Digest(sha256(_PROCESS_PREFIX + key).digest())


_UNAME = os.uname()
_PROCESS_PREFIX = f"process{_UNAME.sysname}{_UNAME.machine}".encode()
