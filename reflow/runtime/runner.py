"""One run: from a loaded program to its result, its files and its rows.

The phases are those of the original: evaluate, and after an error that may go away evaluate again, three
times in all and at least a minute apart. Source: runner/runner.go, (*Runner).Do; runtime/runner.go.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, is_restartable, kind_of
from reflow.core.units import format_size
from reflow.eval import CacheMode, EvalConfig, EvalStats
from reflow.runtime.home import runs_dir
from reflow.runtime.log import INFO, Log, RunLog
from reflow.runtime.record import LIFE, Record
from reflow.runtime.report import Failure, RunReport
from reflow.runtime.request import RunRequest
from reflow.runtime.runstate import Phase, RunFiles, RunState, StateFile
from reflow.runtime.status import Status
from reflow.version import version_text

if TYPE_CHECKING:
    from reflow.eval.evaluator import Evaluator
    from reflow.lang.program import Program
    from reflow.runtime.config import Config
    from reflow.runtime.localcluster import LocalCluster
    from reflow.runtime.stores import Stores

MAX_ATTEMPTS = 3
RETRY_INTERVAL_S = 60.0
LOW_DISK_SHARE = 0.05
_MODES = {
    "off": CacheMode.OFF,
    "read": CacheMode.READ,
    "write": CacheMode.WRITE,
    "readwrite": CacheMode.READWRITE,
}
EXIT_RESTARTABLE, EXIT_EVAL = 10, 11


class RunOutcome:
    """How a run ended. ``text`` and ``value`` are those of the result; ``failures`` say what failed and where."""

    def __init__(self, id: Digest, text: str, value: Any, error: BaseException | None) -> None:
        self.id = id
        self.text = text
        self.value = value
        self.error = error
        self.stats = EvalStats()
        self.failures: list[Failure] = []

    @property
    def status(self) -> int:
        """The exit status."""
        return exit_status(self.error)


def exit_status(error: BaseException | None) -> int:
    """The exit status for the error of a run."""
    if error is None:
        return 0
    if kind_of(error) is Kind.EVAL or isinstance(error, ProgramError):
        return EXIT_EVAL
    return EXIT_RESTARTABLE if is_restartable(error) else 1


class Runner:
    """Does one run. Use `run` once."""

    def __init__(
        self, config: Config, log: Log, status: Status, request: RunRequest, program: Program
    ) -> None:
        self.id = Digest.random()
        self.stats = EvalStats()
        self._config = config
        self._log = log
        self._status = status
        self._request = request
        self._program = program
        self._state = RunState(self.id, program.path, program.params, list(program.args))
        self._files = RunFiles.of(runs_dir(), self.id)
        self._failures: list[Failure] = []
        self._value: Any = None
        self._evaluator: Evaluator | None = None

    async def run(self) -> RunOutcome:
        """Evaluate the program; errors are in the outcome. Raises OSError when no files can be written.

        When this is cancelled, what runs is killed, and the outcome says so.
        """
        os.makedirs(os.path.dirname(self._files.base), exist_ok=True)
        self._log.info("reflow runtime: ===== started =====")
        state_file = StateFile(self._files)
        run_log = self._log.run_log = RunLog(self._files.log)
        self._state.created = datetime.now(UTC)
        try:
            await self._work(state_file)
        finally:
            self._log.run_log = None
            run_log.close()
            state_file.close()
        outcome = RunOutcome(self.id, self._state.result, self._value, self._error)
        outcome.stats = self.stats
        outcome.failures = self._failures
        return outcome

    async def _work(self, state_file: StateFile) -> None:
        stores = Stores(self._config)
        group = self._status.group(self.id.short)
        cluster = LocalCluster(self._config, self._request, stores, self._log)
        try:
            await self._evaluate(state_file, stores, cluster, group)
        except asyncio.CancelledError:
            self._fail(_canceled())
        except (ReflowError, ConfigError) as err:
            self._fail(err)
        state_file.save(self._state)
        await self._finish(stores, cluster)
        self._status.remove(group)
